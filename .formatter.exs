[
  inputs: ["{mix,.formatter}.exs", "{mix,lib,test,bench,examples}/**/*.{ex,exs}"],
  line_length: 110
]
