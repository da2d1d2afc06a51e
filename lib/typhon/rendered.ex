defmodule Typhon.Rendered do
  @moduledoc """
  What a Python object looks like: `Typhon.render/2` returns it.

      {:ok, py} = Typhon.start_link(workers: 1)

      code = \"\"\"
      class Title:
          def __init__(self, text):
              self.text = text

          def _repr_html_(self):
              return f"<h1>{self.text}</h1>"

      Title("Sales")
      \"\"\"

      {:ok, title} = Typhon.eval(py, code)
      {:ok, rendered} = Typhon.render(title)
      "<h1>Sales</h1>" = rendered.data["text/html"]
      :ok = Typhon.save(title, "sales.html")

  * `data` – what there is of it, by MIME type: `%{"image/png" => …, "text/plain" => …}`. All are binaries as files have them:
    pictures are bytes, not Base64; text is UTF-8; JSON is its text
  * `type` – the full name of the object's class

  Python is asked for what it would show in a notebook:

  1. `_repr_mimebundle_`. Metadata are left out.
  2. `_repr_html_`, `_repr_markdown_`, `_repr_latex_`, `_repr_svg_`, `_repr_png_`, `_repr_pdf_`, `_repr_json_` and
     `_repr_javascript_`, where the bundle has no such type; `_repr_jpeg_` where there is no PNG. So frames of pandas and polars
     are HTML, and images of Pillow's PNG.
  3. A figure of matplotlib's is a PNG. So is what is part of one, such as the axes that pandas' `plot()` returns. A `Series` of
     pandas' is HTML as a frame of one column.
  4. `repr()` is `text/plain`, of whatever object.

  What raises, or returns nonsense (a PNG that is none, text that is not UTF-8), is left out. When nothing is left, the error is that
  of `repr()`. A result that is larger than the pool's `:max_result` is refused as that of a call is. The objects of Ruby pools
  are not rendered.
  """

  alias Typhon.{EncodeError, Error, Object, Options}

  @enforce_keys [:data, :type]
  defstruct @enforce_keys

  @type t :: %__MODULE__{data: %{String.t() => binary}, type: String.t()}

  defimpl Inspect do
    # A picture would fill the screen.
    def inspect(%{type: type, data: data}, _opts) do
      sizes = for {mime, bytes} <- Enum.sort(data), do: "#{mime} (#{byte_size(bytes)} bytes)"
      Typhon.Text.visible("#Typhon.Rendered<#{type}: #{Enum.join(sizes, ", ")}>")
    end
  end

  @files [
    {"image/png", [".png"]},
    {"image/svg+xml", [".svg"]},
    {"image/jpeg", [".jpg", ".jpeg"]},
    {"image/gif", [".gif"]},
    {"image/webp", [".webp"]},
    {"image/bmp", [".bmp"]},
    {"image/tiff", [".tif", ".tiff"]},
    {"application/pdf", [".pdf"]},
    {"application/postscript", [".eps"]},
    {"text/html", [".html", ".htm"]},
    {"text/markdown", [".md"]},
    {"text/latex", [".tex"]},
    {"text/plain", [".txt"]},
    {"application/json", [".json"]},
    {"application/javascript", [".js"]}
  ]

  @by_extension for {mime, extensions} <- @files, extension <- extensions, into: %{}, do: {extension, mime}
  @extensions @files |> Enum.flat_map(&elem(&1, 1)) |> Enum.join(", ")

  @doc false
  @spec extensions :: String.t()
  def extensions, do: @extensions

  @doc false
  @spec render(Object.t(), keyword) :: {:ok, t} | {:error, Error.t()}
  def render(object, options) do
    case Object.ask(object, ".render", [], options, :render) do
      {:ok, [{mime, data} | _] = found} when is_binary(mime) and is_binary(data) ->
        {:ok, %__MODULE__{data: Map.new(found), type: object.type}}

      {:ok, nonsense} ->
        {:error, Error.nonsense(nonsense)}

      error ->
        error
    end
  end

  @doc false
  @spec save(Object.t() | t, Path.t(), keyword) :: :ok | {:error, Error.t() | File.Error.t()}
  def save(target, path, options) do
    mime = mime!(path)
    with {:ok, data} <- data(target, mime, options), do: write(path, data)
  end

  defp data(%__MODULE__{data: data, type: type}, mime, options) do
    Options.object!(options, :save)
    with :error <- Map.fetch(data, mime), do: {:error, not_there(type, mime, Map.keys(data), [])}
  end

  defp data(object, mime, options) do
    case Object.ask(object, ".save", [mime], options, :save) do
      {:ok, data} when is_binary(data) -> {:ok, data}
      {:ok, {there, failed}} when is_list(there) -> {:error, not_there(object.type, mime, there, failed)}
      {:ok, nonsense} -> {:error, Error.nonsense(nonsense)}
      error -> error
    end
  end

  defp write(path, data) do
    with {:error, reason} <- File.write(path, data),
         do: {:error, %File.Error{reason: reason, action: "write to file", path: IO.chardata_to_string(path)}}
  end

  defp not_there(type, mime, there, failed) do
    reason =
      "a value of type #{type} has no #{mime}. What there is of it: " <>
        if(there == [], do: "nothing", else: there |> Enum.sort() |> Enum.join(", ")) <>
        if(failed == [], do: "", else: ". What failed: " <> Enum.join(failed, "; "))

    %EncodeError{path: nil, type: type, reason: Typhon.Text.visible(reason)}
  end

  defp mime!(path) when not (is_binary(path) or is_list(path)) do
    raise ArgumentError,
          "Typhon.save/3 takes the object and then the path of the file, which must be a string, got #{inspect(path)}"
  end

  defp mime!(path) do
    extension = path |> IO.chardata_to_string() |> Path.extname() |> String.downcase()

    case @by_extension do
      %{^extension => mime} ->
        mime

      _ ->
        given = if extension == "", do: "none", else: extension

        raise ArgumentError,
              "the extension of the file says what is written: it must be one of #{@extensions}, " <>
                "and that of #{inspect(path)} is #{given}"
    end
  end
end
