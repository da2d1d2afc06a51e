defmodule Typhon.GenPyTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureIO
  import Typhon.TestHelper

  alias Typhon.{Dataclasses, Models}
  alias Typhon.Models.{Address, Everything, Item, Names, User}

  @moduletag :tmp_dir

  @all [Everything, User, Address, Item, Names, Models.None, Models.Other.Address]

  defp generate(arguments), do: capture_io(fn -> Mix.Task.rerun("typhon.gen.py", arguments) end)
  defp names(modules), do: Enum.map(modules, &inspect/1)

  defp refused(arguments),
    do: assert_raise(Mix.Error, fn -> generate(arguments) end) |> Exception.message()

  # The text of some classes, without what stands above them.
  defp classes(modules) do
    [_, classes] = modules |> Dataclasses.source("") |> String.split("\n\n\n", parts: 2)
    classes
  end

  # A pool that has `models`.
  defp pool(modules, dir) do
    generate(names(modules) ++ ["--out", Path.join(dir, "models.py")])
    start_pool(python_path: [dir, py_dir()])
  end

  describe "a dataclass" do
    test "has what is required first, types of @type t, and defaults" do
      assert classes([User, Address, Item]) == ~S'''
             @dataclasses.dataclass
             class User:
                 """Elixir's struct Typhon.Models.User."""

                 id: int
                 name: str
                 address: Address | None = None
                 active: bool = True
                 items: list[Item] = dataclasses.field(default_factory=list)
                 settings: dict[str, int] = dataclasses.field(default_factory=dict)

                 def __post_init__(self) -> None:
                     if isinstance(self.address, dict):
                         self.address = Address(**self.address)
                     if isinstance(self.items, list):
                         self.items = [Item(**item) if isinstance(item, dict) else item for item in self.items]


             @dataclasses.dataclass
             class Address:
                 """Elixir's struct Typhon.Models.Address."""

                 city: str | None = None
                 street: str | None = None
                 country: str = "NO"


             @dataclasses.dataclass
             class Item:
                 """Elixir's struct Typhon.Models.Item."""

                 name: str
                 count: int = 1
             '''
    end

    test "knows no class that is not written, too" do
      assert classes([User]) =~ "    address: typing.Any = None\n"
      assert classes([User]) =~ "    items: list[typing.Any] = "
      refute classes([User]) =~ "__post_init__"
    end

    test "says how it was made, and imports what it needs" do
      assert Dataclasses.source([Item], "mix typhon.gen.py Typhon.Models.Item") =~ ~r'''
             \A# Written by mix typhon.gen.py. What is changed here is lost when that runs again:
             #
             #     mix typhon.gen.py Typhon.Models.Item
             #
             # What Elixir sends becomes an instance by Item\(\*\*sent\)\.
             # What is returned becomes the struct by the option as: of the call.

             from __future__ import annotations

             import dataclasses


             @dataclasses.dataclass
             '''
    end

    test "has the fields that are sent" do
      assert classes([Typhon.EncoderTest.Account]) == ~S'''
             # Elixir does not send :secret.
             @dataclasses.dataclass
             class Account:
                 """Elixir's struct Typhon.EncoderTest.Account."""

                 id: typing.Any = None
                 owner: typing.Any = None
             '''

      assert classes([Typhon.EncoderTest.Session]) =~ "# Elixir does not send :token.\n"

      assert classes([Everything]) =~
               "# Elixir does not send :secret. The option as: needs :secret (@enforce_keys).\n@"

      refute classes([Everything]) =~ "    secret"

      assert classes([Typhon.EncoderTest.Plain]) =~
               "# Elixir sends none: the struct has no Typhon.Encoder.\n@"

      assert classes([Typhon.EncoderTest.Money]) =~ "# The struct's Typhon.Encoder is written by hand: "

      everything = classes(@all)
      assert everything =~ "    other: TyphonModelsOtherAddress | None = None\n"
      assert everything =~ "isinstance(self.home, "
      refute everything =~ "isinstance(self.other, "
    end

    test "has other names where Python has not those" do
      text = classes([Names])
      assert text =~ ~s(    class__: builtins.str  # :class in Elixir\n)
      assert text =~ ~s(    class_: typing_.Any = None\n)
      assert text =~ ~s(    active_: bool | None = None  # :active? in Elixir\n)
      assert text =~ ~s(    first_name: typing_.Any = None  # :"first name" in Elixir\n)
      assert text =~ ~s(    _1st: typing_.Any = None  # :"1st" in Elixir\n)
      assert text =~ ~s(    größe: typing_.Any = None\n)
      assert classes([Models.None]) =~ "class None_:\n"

      assert classes([Address, Models.Other.Address]) =~
               ~r/class TyphonModelsAddress:.*class TyphonModelsOtherAddress:/s
    end

    test "says which default it cannot have" do
      assert classes([Everything]) =~
               ~r/    uri: typing_?.Any = None  # Elixir's default has no counterpart: %URI{/
    end
  end

  describe "the text" do
    test "is Python that runs, in each version", %{tmp_dir: dir} do
      path = Path.join(dir, "models.py")
      generate(names(@all) ++ ["--out", path])

      for {python, version} <- pythons(),
          Version.match?(version, ">= 3.11.0"),
          do: assert({_, 0} = System.cmd(python, ["-m", "py_compile", path], stderr_to_stdout: true))
    end

    test "has types that mypy takes, each class by itself and all together", %{tmp_dir: dir} do
      {output, 0} = System.cmd(Path.expand("scripts/venv"), ["check", "mypy"])
      python = output |> String.split() |> List.last()

      for {modules, index} <- Enum.with_index([@all | Enum.map(@all, &[&1])]),
          do: generate(names(modules) ++ ["--out", Path.join(dir, "models#{index}.py")])

      File.write!(Path.join(dir, "used.py"), """
      from models0 import Item, Names, User

      user = User(1, "Ann", items=[Item("pen")])
      count: int = user.items[0].count
      names: dict[str, object] = Names.from_elixir({"class": "a"}).to_elixir()
      """)

      command = [
        "-m",
        "mypy",
        "--strict",
        "--python-version",
        "3.11",
        "--cache-dir",
        "_build/mypy-models",
        dir
      ]

      env = [{"MYPYPATH", Path.expand("python")}]

      assert {"Success: no issues found in 9 source files\n", 0} =
               System.cmd(python, command, env: env, stderr_to_stdout: true)

      File.write!(Path.join(dir, "used.py"), "from models0 import User\n\nUser('one', 1)\n")
      assert {text, 1} = System.cmd(python, command, env: env, stderr_to_stdout: true)
      assert text =~ ~s(expected "int")
    end
  end

  describe "an instance" do
    test "is made of what Elixir sends, and comes back", %{tmp_dir: dir} do
      py = pool(@all, dir)
      as = {User, address: Address, items: [Item]}

      code = """
      import models
      user = models.User(**sent)
      assert sent['address'] is None or type(user.address) is models.TyphonModelsAddress, user
      assert all(type(item) is models.Item for item in user.items), user
      user
      """

      for user <- [
            %User{id: 1, name: "Ann"},
            %User{id: 2, name: "", active: false, address: %Address{city: "Oslo"}, settings: %{"a" => 1}},
            %User{id: 3, name: "ü", items: [%Item{name: "pen"}, %Item{name: "ink", count: 2}]},
            %User{id: nil, name: nil, items: nil, settings: nil}
          ] do
        assert {:ok, ^user} =
                 Typhon.eval(py, String.replace(code, "user.items)", "user.items or [])"), [sent: user],
                   as: as
                 )
      end

      assert {:ok, %Item{name: "pen", count: 1}} = Typhon.call(py, :models, :Item, ["pen"], as: Item)

      assert {:ok, "" <> _} = Typhon.eval(py, "import models\nrepr(models.None_())")
    end

    test "has the struct's defaults", %{tmp_dir: dir} do
      py = pool(@all, dir)

      expected =
        for {name, value} <- Map.from_struct(%Everything{must: 1, secret: "", uri: nil}),
            name != :secret,
            into: %{},
            do: {Atom.to_string(name), value}

      home = %{"city" => "Oslo", "street" => nil, "country" => "NO"}
      assert {:ok, made} = Typhon.call(py, :models, :Everything, [1])
      assert made == %{expected | "home" => home}
      # Each has its own.
      code =
        "import models\na, b = models.Everything(1), models.Everything(2)\na.numbers.append(3)\nb.numbers"

      assert Typhon.eval(py, code) == {:ok, [1, 2]}
    end

    test "has Elixir's names where Python has them not", %{tmp_dir: dir} do
      py = pool([Names], dir)
      inner = %Names{class: "b", __hidden: 2}

      names = %{
        struct(Names, class: "a", class_: 1, active?: true, "first name": "A")
        | "": 3,
          dataclasses: [inner]
      }

      code =
        "import models\nnames = models.Names.from_elixir(sent)\nnames.dataclasses = [one.to_elixir() for one in names.dataclasses]\nnames"

      assert {:ok, ^names} =
               Typhon.eval(py, code <> ".to_elixir()", [sent: names], as: {Names, dataclasses: [Names]})

      assert {:ok, ["a", true, "A", 2]} =
               Typhon.eval(
                 py,
                 "import models\nn = models.Names.from_elixir(sent)\n[n.class__, n.active_, n.first_name, n.dataclasses[0]._hidden]",
                 sent: names
               )
    end

    @words ~w(a b_ list dict str int float bool set tuple range object type vars isinstance super print match case _ __ self cls
              names sent key value item field fields mro dataclass dataclasses _dataclasses dataclasses_ typing typing_ Any
              typhon datetime decimal builtins builtins_ annotations from_elixir to_elixir __init__ __class__ __dict__ __slots__
              __post_init__ __eq__ __doc__ __annotations__ __hidden __match_args__ class class_ None none True def lambda await
              a? a! a-b 1 1a -
              größe gro\u0308ße ﬁ fi ß 名前 𝒳 · a·b ² Random1 Random2)a ++
             [:"", :" ", :"a b", :"\n", :"\"", :"\\"]

    test "may have any names", %{tmp_dir: dir} do
      seed = :rand.seed(:exsss)

      structs =
        for n <- 1..60 do
          module = Module.concat(__MODULE__, "Random#{n}")
          fields = Enum.take_random(@words, 12)

          fields =
            for name <- fields,
                do: {name, Enum.random([nil, 1, [], %{}, [2], "s", 0.5, :ok, ~D[2024-01-01], 1..2])}

          Module.create(module, quote(do: defstruct(unquote(Macro.escape(fields)))), __ENV__)
          module
        end

      File.write!(Path.join(dir, "models.py"), Dataclasses.source(structs, ""))
      py = start_pool(python_path: [dir])

      code = """
      import models
      cls = vars(models).get(name) or vars(models)[name + '_']
      made = cls.from_elixir(sent) if hasattr(cls, 'from_elixir') else cls(**sent)
      default = cls()
      assert default == made, (default, made)
      made.to_elixir() if hasattr(cls, 'from_elixir') else vars(made)
      """

      for module <- structs do
        struct = module.__struct__()
        sent = for {name, value} <- Map.from_struct(struct), into: %{}, do: {Atom.to_string(name), value}
        name = module |> Module.split() |> List.last()
        assert Typhon.eval(py, code, [sent: sent, name: name], as: module) == {:ok, struct}, inspect(seed)
      end
    end
  end

  describe "mix typhon.gen.py" do
    test "prints without --out, and says what it was given that is none" do
      assert generate(["Typhon.Models.Item"]) =~
               ~r/\A# Written by .*#     mix typhon.gen.py Typhon.Models.Item\n.*count: int = 1\n\z/s

      assert refused([]) == "mix typhon.gen.py takes the names of structs: mix typhon.gen.py MyApp.User"
      assert refused(["Enum"]) == "Enum is no struct: the module has no defstruct"

      assert refused(["No.Such"]) ==
               "there is no module No.Such, neither in this project nor in what it depends on"

      assert refused(["user"]) == "\"user\" is no name of an Elixir module: mix typhon.gen.py MyApp.User"

      assert refused(["Typhon.Models.Item", "--check"]) ==
               "--check needs --out: the file that is to be checked"
    end

    test "writes over what it has written, and over nothing else", %{tmp_dir: dir} do
      path = Path.join(dir, "py/models.py")
      arguments = ["Typhon.Models.Item", "--out", path]
      assert generate(arguments) =~ "creating"
      written = File.read!(path)
      assert generate(["Typhon.Models.User", "--out", path]) =~ "creating"
      assert File.read!(path) =~ "class User:"
      generate(arguments)
      assert File.read!(path) == written

      File.write!(path, "x = 1\n")
      assert refused(arguments) == "#{path} was not written by mix typhon.gen.py: --force writes over it"
      assert File.read!(path) == "x = 1\n"
      generate(arguments ++ ["--force"])
      assert File.read!(path) == written
    end

    test "checks whether a file is as it would be written", %{tmp_dir: dir} do
      path = Path.join(dir, "models.py")
      arguments = ["Typhon.Models.Item", "--out", path]
      command = "mix typhon.gen.py Typhon.Models.Item --out #{path}"

      assert refused(arguments ++ ["--check"]) ==
               "#{path} cannot be read (no such file or directory): #{command} writes it"

      refute File.exists?(path)
      generate(arguments)
      assert generate(arguments ++ ["--check"]) =~ "#{path} is up to date"
      File.write!(path, "\n", [:append])
      before = File.read!(path)
      assert refused(arguments ++ ["--check"]) == "#{path} is out of date: #{command} writes it again"
      assert File.read!(path) == before
    end
  end
end
