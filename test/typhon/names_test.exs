defmodule Typhon.NamesTest do
  # Names of modules, functions, attributes and keyword arguments beyond ASCII, as atoms and as strings.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{PythonError, TimeoutError}

  @source """
  import time
  import typhon

  def größe(x, *, länge=1): return x * länge
  def 名前(x): return x
  def ﬁt(x): return x
  async def läuft(x): return x
  def gib(n): yield from range(n)
  def würfe(): raise ValueError("ähm")
  def schläft(mark):
      open(mark, "w").close()
      time.sleep(600)
  def ruft(f, x): return f(x)

  class Höhe:
      tiefe = "tief"
      def mäß(self, x): return x
      async def läuft(self, x): return x
  """

  # Latin-1 and beyond; both in the form that Elixir gives to identifiers.
  @functions [:größe, :名前, "größe", "名前"]

  setup_all do
    dir = new_path("names")
    File.mkdir_p!(Path.join(dir, "paket_ü"))
    for name <- ["größe", "模块"], do: File.write!(Path.join(dir, name <> ".py"), @source)
    File.write!(Path.join([dir, "paket_ü", "__init__.py"]), "")
    File.write!(Path.join([dir, "paket_ü", "größe.py"]), @source)
    on_exit(fn -> File.rm_rf!(dir) end)
    {:ok, py: start_pool(python_path: [dir, py_dir()]), dir: dir}
  end

  defp ok!({:ok, value}), do: value

  test "by call, of every module", %{py: py} do
    for module <- [:größe, "größe", :模块, "模块", :"paket_ü.größe", "paket_ü.größe"], function <- @functions do
      assert Typhon.call(py, module, function, [7]) == {:ok, 7}
    end

    assert Typhon.call(py, :größe, :größe, [2], kwargs: %{länge: 3}) == {:ok, 6}
    assert Typhon.call(py, :größe, :größe, [2], kwargs: [länge: 3]) == {:ok, 6}
    assert Typhon.call(py, :größe, :größe, [2], kwargs: %{"länge" => 3}) == {:ok, 6}
    # The longest of all atoms.
    long = String.to_atom(String.duplicate("名", 255))
    assert {:error, %PythonError{type: "ModuleNotFoundError"}} = Typhon.call(py, long, :x, [])
    assert {:error, %PythonError{type: "AttributeError"}} = Typhon.call(py, :math, long, [])
    long = String.to_atom(String.duplicate("ß", 255))
    assert {:error, %PythonError{type: "ModuleNotFoundError"}} = Typhon.call(py, long, :x, [])
  end

  test "by every other way to call", %{py: py} do
    for function <- @functions do
      assert py |> Typhon.async(:größe, function, [1]) |> Typhon.await() == {:ok, 1}
      assert Typhon.multi(py, :größe, function, [[1], [2]]) == [ok: 1, ok: 2]
      assert Typhon.multi(py, [{:größe, function, [1]}, {"größe", function, [2]}]) == [ok: 1, ok: 2]
      assert py |> Typhon.map(:größe, function, [1, 2]) |> Enum.to_list() == [1, 2]
      assert Typhon.cast(py, :größe, function, [1]) == :ok
      assert {:ok, {:ok, 1}} = Typhon.run(py, &Typhon.call(&1, :größe, function, [1]))
      assert Typhon.call(py, :größe, function, [1], worker: :key, retry: 1) == {:ok, 1}
    end

    for function <- [:gib, "gib"],
        do: assert(py |> Typhon.stream(:größe, function, [2]) |> Enum.to_list() == [0, 1])

    for _ <- 1..2, do: assert(Typhon.call(py, :größe, :läuft, [1]) == {:ok, 1})
    # With a function, and so by a callback's way.
    assert Typhon.call(py, :größe, :ruft, [&(&1 + 1), 1]) == {:ok, 2}
  end

  test "of objects", %{py: py} do
    object = ok!(Typhon.call(py, :größe, :Höhe, []))
    assert inspect(object) =~ "größe.Höhe"

    for name <- [:mäß, "mäß", :läuft, "läuft"], _ <- 1..2 do
      assert Typhon.call(py, object, name, [1]) == {:ok, 1}
    end

    assert Typhon.multi(py, object, :mäß, [[1]]) == [ok: 1]
    assert Typhon.call(py, object, "tiefe.upper", []) == {:ok, "TIEF"}
    assert Typhon.call(py, :größe, :"Höhe.tiefe.upper", []) == {:ok, "TIEF"}
    assert {:error, %PythonError{message: message}} = Typhon.call(py, object, :fehlt_ß, [])
    assert message == "'Höhe' object has no attribute 'fehlt_ß'"
  end

  test "in another form of Unicode than Python's parser gives to identifiers", %{py: py} do
    # Decomposed, a ligature, and a module's name in the same way.
    decomposed = "gro\u0308ße"

    for module <- ["größe", decomposed, String.to_atom(decomposed)],
        function <- ["ﬁt", "fit", :fit, :"ﬁt", decomposed, String.to_atom(decomposed)] do
      assert Typhon.call(py, module, function, [1]) == {:ok, 1}
      assert Typhon.multi(py, module, function, [[1]]) == [ok: 1]
      assert Typhon.multi(py, [{module, function, [1]}]) == [ok: 1]
    end

    # What is there by just that name comes first.
    code =
      "setattr(__import__('größe'), 'ﬁx', lambda: 'as it stands') or setattr(__import__('größe'), 'fix', lambda: 'plain')"

    assert {:ok, nil} = Typhon.call(py, :converse, :evaluate, [code])
    assert Typhon.call(py, :größe, "ﬁx", []) == {:ok, "as it stands"}
    assert Typhon.call(py, :größe, "fix", []) == {:ok, "plain"}

    # And the error is about the name that was given.
    assert {:error, %PythonError{message: message, cause: nil}} = Typhon.call(py, :größe, "ﬁrst", [])
    assert message == "module 'größe' has no attribute 'ﬁrst'"
    assert {:error, %PythonError{message: "No module named 'ﬁrst'"}} = Typhon.call(py, "ﬁrst", "x", [])
  end

  test "in errors", %{py: py} do
    for function <- [:fehlt_名, "fehlt_名"] do
      assert {:error, %PythonError{type: "AttributeError"} = error} = Typhon.call(py, :größe, function, [])
      assert error.message == "module 'größe' has no attribute 'fehlt_名'"
      assert [%{function: "größe.fehlt_名"}] = error.traceback
      assert [{:error, %PythonError{message: message}}] = Typhon.multi(py, :größe, function, [[]])
      assert message == error.message
    end

    assert {:error, %PythonError{message: "ähm", traceback: [%{function: "würfe", file: file}]}} =
             Typhon.call(py, :größe, :würfe, [])

    assert Path.basename(file) == "größe.py"
    assert {:error, %Typhon.EncodeError{path: "args[0]" <> _}} = Typhon.call(py, :größe, :名前, [<<255>>])

    assert {:error, %TimeoutError{module: :größe, function: :schläft} = error} =
             overrun(py, fn timeout, mark -> Typhon.call(py, :größe, :schläft, [mark], timeout: timeout) end)

    assert Exception.message(error) =~ "größe.schläft with 1 argument did not answer"
  end

  test "of stubs", %{py: py} do
    Typhon.Test.stub(py, :größe, :名前, fn x -> {:stubbed, x} end)
    assert Typhon.call(py, :größe, :名前, [1]) == {:ok, {:stubbed, 1}}
    assert Typhon.call(py, "größe", "名前", [1]) == {:ok, {:stubbed, 1}}
    assert Typhon.call(py, :größe, :größe, [1]) == {:ok, 1}
  end

  test "of Ruby", %{dir: dir} do
    source = """
    def größe(x) = x

    module Maß
      def self.名前(x, länge: 1) = x * länge
      def self.ding = Ding.new

      class Ding
        def höhe(x) = x
      end
    end
    """

    path = Path.join(dir, "maß.rb")
    File.write!(path, source)

    options = [
      language: :ruby,
      isolation: :process,
      workers: 1,
      stdio: :discard,
      start_timeout: limit(),
      require: [path]
    ]

    rb = start_supervised!(%{id: :ruby, start: {Typhon, :start_link, [options]}, type: :supervisor})

    for module <- [:Maß, "Maß"], function <- [:名前, "名前"] do
      assert Typhon.call(rb, module, function, [2], kwargs: %{länge: 3}) == {:ok, 6}
    end

    assert Typhon.call(rb, nil, :größe, [1]) == {:ok, 1}
    assert Typhon.call(rb, :Maß, :"ding.höhe", [1]) == {:ok, 1}
    ding = ok!(Typhon.call(rb, :Maß, :ding, []))
    assert Typhon.call(rb, ding, :höhe, [1]) == {:ok, 1}
    assert {:error, %Typhon.RubyError{message: message}} = Typhon.call(rb, :Maß, :fehlt_名, [])
    assert message =~ "fehlt_名"
  end
end
