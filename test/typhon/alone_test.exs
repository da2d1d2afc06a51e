defmodule Typhon.AloneTest do
  # The core stands in nobody's way: drop-ins are applications of their own (compat/).
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  @moduletag :tmp_dir

  # What stands for the ErlPort of Hex: its application, a module of its, its Python package.
  defp erlport(dir) do
    ebin = Path.join(dir, "erlport-0.11.0/ebin")
    File.mkdir_p!(ebin)

    for name <- [:python, :python_options, :ruby, :ruby_options, :erlport] do
      forms = [
        {:attribute, 1, :module, name},
        {:attribute, 1, :export, [who: 0]},
        {:function, 1, :who, 0, [{:clause, 1, [], [], [{:atom, 1, :erlports_own}]}]}
      ]

      {:ok, ^name, beam} = :compile.forms(forms)
      File.write!(Path.join(ebin, "#{name}.beam"), beam)
    end

    properties = [
      description: ~c"ErlPort",
      vsn: ~c"0.11.0",
      modules: [:erlport, :python, :python_options, :ruby, :ruby_options],
      registered: [],
      applications: [:kernel, :stdlib]
    ]

    File.write!(
      Path.join(ebin, "erlport.app"),
      :io_lib.format("~p.~n", [{:application, :erlport, properties}])
    )

    File.write!(Path.join(dir, "erlport.py"), "def who(): return 'its own'\n")
    ebin
  end

  test "its modules are named after it" do
    {:ok, modules} = :application.get_key(:typhon, :modules)
    tests = Path.expand("test") <> "/"

    core =
      for module <- modules,
          Code.ensure_loaded?(module),
          not (module.module_info(:compile)[:source] |> List.to_string() |> String.starts_with?(tests)),
          do: Atom.to_string(module)

    assert "Elixir.Typhon.Native" in core
    # A protocol's implementation, and a task of Mix, is named after what it is first.
    assert for(
             name <- core,
             not (name =~ ~r/^(typhon_|Elixir\.(\w+\.|Mix\.Tasks\.|Kino\.Render\.|Table\.Reader\.)?Typhon)/),
             do: name
           ) == []

    assert Path.wildcard(Path.join(:code.lib_dir(:typhon), "ebin/*.app")) |> Enum.map(&Path.basename/1) == [
             "typhon.app"
           ]
  end

  test "its packages are named after it" do
    packages = fn language -> Path.wildcard(Path.join([:code.priv_dir(:typhon), language, "*"])) end
    assert Enum.map(packages.("python"), &Path.basename/1) == ["typhon"]
    assert Enum.map(packages.("ruby"), &Path.basename/1) -- ["native", "left_out"] == ["typhon", "typhon.rb"]
  end

  test "an application has ErlPort itself beside it", %{tmp_dir: dir} do
    ebin = erlport(dir)

    code = """
    Code.append_path(#{inspect(ebin)})
    {:ok, _} = Application.ensure_all_started(:erlport)
    {:ok, py} = Typhon.start_link(workers: 1, python_path: [#{inspect(dir)}])
    {:ok, said} = Typhon.call(py, :erlport, :who, [])
    IO.inspect({:python.who(), :erlport.who(), Application.spec(:erlport, :vsn), said})
    """

    assert {text, 0} = vm(code)
    assert text =~ ~s({:erlports_own, :erlports_own, '0.11.0', "its own"})
  end

  # No two applications of a release may have a module of one name.
  test "a release has both", %{tmp_dir: dir} do
    erlport = erlport(dir)

    applications =
      for name <- [:kernel, :stdlib, :compiler, :elixir, :logger, :typhon], do: {name, version(name)}

    release =
      {:release, {~c"both", ~c"1"}, {:erts, :erlang.system_info(:version)},
       applications ++ [{:erlport, ~c"0.11.0"}]}

    name = Path.join(dir, "both")
    File.write!(name <> ".rel", :io_lib.format("~p.~n", [release]))
    paths = for path <- [erlport | Enum.map(applications, &ebin(elem(&1, 0)))], do: String.to_charlist(path)

    result =
      :systools.make_script(String.to_charlist(name), [
        :silent,
        {:path, paths},
        {:outdir, String.to_charlist(dir)}
      ])

    assert {:ok, _, _} = result
  end

  defp version(name) do
    Application.load(name)
    Application.spec(name, :vsn)
  end

  defp ebin(name), do: Path.join(:code.lib_dir(name), "ebin")
end
