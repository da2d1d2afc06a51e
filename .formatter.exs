[
  inputs: ["{mix,.formatter}.exs", "{mix,lib,test,bench,examples,scripts}/**/*.{ex,exs}"],
  line_length: 110
]
