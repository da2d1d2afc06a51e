defmodule Typhon.FiguresTest do
  # Figures that code beside a call makes: when they are closed, and what they are drawn with. With a stand-in for pyplot; real
  # ones are in render_packages_test.exs.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{Object, PythonError}

  setup do
    {:ok, py: start_pool()}
  end

  defp figures(py) do
    {:ok, count} = Typhon.call(py, :drawing, :number_of_figures, [])
    count
  end

  test "those of an eval are closed when it ends, however it ends", %{py: py} do
    assert {:ok, 1} =
             Typhon.eval(py, "import drawing; drawing.figure(); drawing.figure(); drawing.figure(); 1")

    assert figures(py) == 0
    assert {:ok, nil} = Typhon.eval(py, "import drawing\ndrawing.figure(); x = 1")
    assert figures(py) == 0
    # An expression alone.
    assert {:ok, %Object{}} = Typhon.eval(py, "__import__('drawing').figure()")
    assert figures(py) == 0
    assert {:error, %PythonError{}} = Typhon.eval(py, "import drawing; drawing.figure(); 1 / 0")
    assert figures(py) == 0
    assert {:ok, 2} = Typhon.eval(py, "import drawing\nif drawing.figure():\n    return 2\n")
    assert figures(py) == 0
    # One that does not let itself be closed.
    assert {:ok, nil} = Typhon.eval(py, "import drawing; drawing.figure(True); drawing.figure(); None")
    assert figures(py) == 0
  end

  test "of code that awaits, too, and of a coroutine that is its value", %{py: py} do
    later = "import drawing; a = drawing.figure(); await drawing.figure_later(); 5"
    assert {:ok, 5} = Typhon.eval(py, later)
    assert figures(py) == 0
    assert {:ok, %Object{}} = Typhon.eval(py, "import drawing; drawing.figure_later()")
    assert figures(py) == 0

    {:ok, scope} = Typhon.scope(py)
    assert {:ok, 5} = Typhon.eval(scope, later)
    assert {:ok, %Object{}} = Typhon.eval(scope, "drawing.figure_later()")
    assert figures(py) == 0
  end

  test "a figure that is returned, or that a scope holds, can be used", %{py: py} do
    {:ok, figure} = Typhon.eval(py, "import drawing; drawing.figure()")
    assert {:ok, "<svg id='1'/>"} = svg(figure)

    {:ok, scope} = Typhon.scope(py)
    assert {:ok, nil} = Typhon.eval(scope, "import drawing; kept = drawing.figure()")
    assert figures(py) == 0
    assert {:ok, 2} = Typhon.eval(scope, "kept.number")
    assert {:ok, kept} = Typhon.get(scope, :kept)
    assert {:ok, "<svg id='2'/>"} = svg(kept)
  end

  defp svg(figure) do
    {:ok, rendered} = Typhon.render(figure)
    Map.fetch(rendered.data, "image/svg+xml")
  end

  test "those of functions that are called stay, and so does what was there before", %{py: py} do
    assert {:ok, %Object{}} = Typhon.call(py, :drawing, :figure, [])
    assert {:ok, nil} = Typhon.eval(py, "import drawing; drawing.figure(); None")
    assert figures(py) == 1
    # A number that was free again.
    assert {:ok, nil} = Typhon.eval(py, "import drawing; drawing.close_all(); drawing.figure(); None")
    assert figures(py) == 0
  end

  test "they are open as long as other code runs there" do
    py = start_pool(concurrency: 4)

    test = self()

    code = """
    import drawing
    drawing.figure()
    ask()
    drawing.number_of_figures()
    """

    ask = fn ->
      send(test, {:asked, self()})

      receive do
        :go_on -> nil
      end
    end

    task = async(fn -> Typhon.eval(py, code, [ask: ask], timeout: :infinity) end)
    assert_receive {:asked, caller}
    assert {:ok, nil} = Typhon.eval(py, "import drawing; drawing.figure(); None")
    assert figures(py) == 2
    send(caller, :go_on)
    assert {:ok, 2} = await(task)
    assert figures(py) == 0
  end

  @tag :tmp_dir
  test "those of a program are closed at its end", %{py: py, tmp_dir: dir} do
    path = Path.join(dir, "program.py")
    File.write!(path, "import drawing, sys\ndrawing.figure()\nsys.exit(drawing.number_of_figures())\n")
    assert {:ok, 1} = Typhon.exec_file(py, path)
    assert figures(py) == 0
  end

  test "matplotlib draws into memory unless the pool says otherwise", %{py: py} do
    backend = "import os; os.environ['MPLBACKEND']"
    assert {:ok, "agg"} = Typhon.eval(py, backend)
    assert {:ok, "svg"} = Typhon.eval(start_pool(env: %{"MPLBACKEND" => "svg"}), backend)
  end
end
