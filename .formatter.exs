[
  inputs: [
    "{mix,.formatter}.exs",
    "{mix,lib,test,bench,examples,scripts}/**/*.{ex,exs}",
    "compat/*/mix.exs",
    "compat/*/{mix,lib,test}/**/*.{ex,exs}"
  ],
  line_length: 110
]
