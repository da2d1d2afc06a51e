defmodule Typhon.DocsTest do
  # What scripts/docs makes of a page.
  use ExUnit.Case, async: true

  alias Typhon.DocsBlocks
  alias Typhon.DocsBlocks.Failed

  @moduletag :tmp_dir

  unless Code.ensure_loaded?(DocsBlocks), do: Code.require_file("../../scripts/docs_blocks.exs", __DIR__)

  defp page(text, dir, name \\ "page.md") do
    path = Path.join(dir, name)
    File.write!(path, text)
    DocsBlocks.pages(path)
  end

  defp evaluate(text, dir) do
    [blocks] = page(text, dir)
    DocsBlocks.evaluate!(blocks)
  end

  test "blocks of a page know their line, language, name and why they are not run", %{tmp_dir: dir} do
    [blocks] =
      page(
        """
        # A page

        ```elixir
        x = 1
        ```

        * in a list
          ```python
          # priv/py/shop.py
          total = 1
          ```

        <!-- not run: it needs root -->

        ```sh
        make setup
        ```
        """,
        dir
      )

    assert [
             %{line: 4, language: "elixir", code: "x = 1\n", name: nil, skip: nil},
             %{line: 9, language: "python", code: "# priv/py/shop.py\ntotal = 1\n", name: "priv/py/shop.py"},
             %{line: 16, language: "sh", skip: "it needs root"}
           ] = blocks
  end

  test "in a source each piece of documentation is a page, and what is indented is code", %{tmp_dir: dir} do
    source = ~S'''
    defmodule Sample do
      @moduledoc """
      Words, and a list:

      * `a` – one
        and more

          x = "\#{1}"

      End.
      """

      @doc """
          iex> Sample.f()
          1
      """
      def f, do: 1
    end
    '''

    code = ~S(x = "#{1}") <> "\n"

    assert [
             [%{line: 8, language: "elixir", code: ^code}],
             [%{line: 14, language: "iex", code: "iex> Sample.f()\n1\n"}]
           ] = page(source, dir, "sample.ex")
  end

  test "what one block binds, aliases and imports the next can use", %{tmp_dir: dir} do
    assert :ok =
             evaluate(
               """
               ```elixir
               import String, only: [upcase: 1]
               name = "ann"
               ```

               ```elixir
               upcase(name)   # => "ANN"
               {:ok, [name, self()]}
               # => {:ok,
               #     ["ann", _]}
               self()         # => #PID<…>
               ```
               """,
               dir
             )
  end

  test "a value that is another, and an error, say where they are", %{tmp_dir: dir} do
    for {code, line, message} <- [
          {"1 + 1\n2 + 2   # => 5", 3, "this is 4, and not 5"},
          {"1 +\n  1\n# => 3", 4, "this is 2, and not 3"},
          {"{:ok, 1}   # => {:error, _}", 2, "this is {:ok, 1}, and not {:error, _}"},
          {"x = 1\n\n{:ok, _} = {:error, x}", 4,
           "(MatchError) no match of right hand side value: {:error, 1}"},
          {"exit(:gone)", 2, "(exit) :gone"},
          {"# => 1\nx = 1", 2, "there is nothing whose value this could be"},
          {"x = (1", 3, "this is not Elixir: missing terminator: )"}
        ] do
      error = assert_raise Failed, fn -> evaluate("```elixir\n#{code}\n```\n", dir) end
      assert error.message =~ "page.md:#{line}: "
      assert error.message =~ message
    end
  end
end
