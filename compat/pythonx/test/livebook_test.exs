defmodule Pythonx.LivebookTest do
  @moduledoc "What Livebook's runtime and kino_pythonx do with Pythonx, cell by cell."
  use ExUnit.Case, async: true

  # A Python cell: the sigil is expanded, the call is given another device for stderr, and the variables stay for the next cell.
  defp cell(code, binding) do
    env = %{__ENV__ | requires: [Pythonx], macros: [{Pythonx, [{:sigil_PY, 2}]}], function: nil, module: nil}
    names = for {name, _} <- binding, into: %{}, do: {{name, nil}, 0}
    expanded = Macro.expand_once({:sigil_PY, [], [{:<<>>, [], [code]}, []]}, %{env | versioned_vars: names})

    quoted =
      Macro.prewalk(expanded, fn
        {{:., _, [{:__aliases__, _, [:Pythonx]}, :eval]} = function, meta, [code, globals]} ->
          {function, meta, [code, globals, [stderr_device: quote(do: Process.group_leader())]]}

        other ->
          other
      end)

    {value, binding} = Code.eval_quoted(quoted, binding)
    {value, Keyword.new(binding)}
  end

  test "cells hand on what they assign, and see variables of Elixir's cells" do
    {nil, binding} = cell("import math\nrows = [1, 2]\ndef area(r):\n  return math.floor(pi * r)", pi: 3.5)
    assert binding |> Keyword.keys() |> Enum.sort() == [:area, :math, :pi, :rows]

    {value, binding} = cell("total = sum(map(area, rows))\ntotal", binding)
    assert inspect(value) == "#Pythonx.Object<\n  10\n>"
    assert Pythonx.decode(binding[:total]) == 10

    # A function has the globals of its own cell.
    {value, _} = cell("pi = 100\narea(1)", binding)
    assert Pythonx.decode(value) == 3
  end

  test "what a cell prints comes to its group leader, of both streams in order" do
    said =
      ExUnit.CaptureIO.capture_io(fn ->
        cell("import sys\nprint(1)\nprint(2, file=sys.stderr)\nprint(3)", [])
      end)

    assert said == "1\n2\n3\n"
  end

  test "an error marks the line of its cell, and is printed as Python does" do
    error = assert_raise(Pythonx.Error, fn -> cell("def f(x):\n  return x['no']\n\nf({})", []) end)
    globals = %{"type" => error.type, "value" => error.value, "trace" => error.traceback}

    {mark, _} =
      Pythonx.eval(
        "import traceback\n(trace.tb_lineno, ' '.join(traceback.format_exception_only(type, value)).strip())",
        globals
      )

    assert Pythonx.decode(mark) == {4, "KeyError: 'no'"}

    {text, _} = Pythonx.eval("import traceback\ntraceback.format_exception(type, value, trace)", globals)
    assert Pythonx.decode(text) == error.lines
  end

  test "helpers that one evaluation makes serve later ones, of any process" do
    # As completion has it: an object that holds functions, in a persistent term.
    {helpers, %{}} =
      Pythonx.eval(
        """
        import types

        def matches(names, prefix):
            return [name for name in names if name.startswith(prefix.decode("utf-8"))]

        types.SimpleNamespace(matches=matches)
        """,
        %{}
      )

    task =
      Task.async(fn ->
        Pythonx.eval("helpers.matches(dir(value), prefix)", %{
          "helpers" => helpers,
          "value" => Pythonx.encode!("text"),
          "prefix" => "start"
        })
      end)

    assert {result, _} = Task.await(task, :infinity)
    assert Pythonx.decode(result) == ["startswith"]
  end

  test "an object is looked at for how it is shown" do
    code = """
    import sys

    def show(value):
        for index, (module, name) in enumerate(classes):
            module, name = module.decode("utf-8"), name.decode("utf-8")
            if module in sys.modules and isinstance(value, getattr(sys.modules[module], name)):
                return ("renderer", index)
        if hasattr(value, "_repr_html_"):
            return ("html", value._repr_html_())
        return ("text", repr(value))

    show(value)
    """

    classes = [{"no.such", "Class"}, {"collections", "OrderedDict"}]

    show = fn value ->
      Pythonx.eval(code, %{"value" => value, "classes" => classes}) |> elem(0) |> Pythonx.decode()
    end

    {page, _} = Pythonx.eval("class Page:\n  def _repr_html_(self): return '<p>'\n\nPage()", %{})
    {ordered, _} = Pythonx.eval("import collections\ncollections.OrderedDict()", %{})
    assert show.(page) == {"html", "<p>"}
    assert show.(ordered) == {"renderer", 1}
    assert show.(Pythonx.encode!(1)) == {"text", "1"}
  end

  test "a table's columns come as objects, and their rows when they are asked for" do
    {columns, _} = Pythonx.eval("('table', ['a'], [(range(5), 5)], 5)", %{})
    assert {"table", ["a"], [{%Pythonx.Object{} = series, 5}], 5} = Pythonx.decode(columns)
    {rows, _} = Pythonx.eval("list(series[start:start + 2])", %{"series" => series, "start" => 3})
    assert Pythonx.decode(rows) == [3, 4]
  end
end
