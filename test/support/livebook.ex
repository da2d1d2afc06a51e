# What of Livebook's packages Typhon uses, by the same names: Kino 0.19.0 and Table 0.1.2 were read for them.

defprotocol Kino.Render do
  @moduledoc false
  @fallback_to_any true
  def to_livebook(value)
end

defimpl Kino.Render, for: Any do
  def to_livebook(value), do: %{type: :plain_text, text: inspect(value)}
end

defmodule Kino.Shown do
  @moduledoc false
  defstruct [:output]

  defimpl Kino.Render do
    def to_livebook(%{output: output}), do: output
  end
end

defmodule Kino.HTML do
  @moduledoc false
  def new(html) when is_binary(html), do: %Kino.Shown{output: %{type: :js, html: html}}
end

defmodule Kino.Markdown do
  @moduledoc false
  def new(text, _options \\ []) when is_binary(text), do: %Kino.Shown{output: %{type: :markdown, text: text}}
end

defmodule Kino.Image do
  @moduledoc false
  def new(content, "image/" <> _ = mime) when is_binary(content),
    do: %Kino.Shown{output: %{type: :image, content: content, mime_type: mime}}
end

defmodule Kino.Text do
  @moduledoc false
  def new(text, _options \\ []) when is_binary(text),
    do: %Kino.Shown{output: %{type: :plain_text, text: text}}
end

defprotocol Table.Reader do
  @moduledoc false
  def init(tabular)
end
