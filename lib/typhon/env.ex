defmodule Typhon.Env do
  @moduledoc """
  What a Python is, and what this machine can do with it.

      iex> {:ok, env} = Typhon.Env.describe("python3")
      iex> env.version =~ ~r/^3\\.\\d+/
      true
  """

  alias Typhon.{Interpreters, Language, Native, Program, StartError}
  alias Typhon.Language.Python

  @timeout 30_000

  # Lines `name=value`, whatever the version.
  @script """
  import sys, sysconfig, os
  def say(name, value): sys.stdout.write('typhon:%s=%s\\n' % (name, value))
  get = sysconfig.get_config_var
  say('version', sys.version.split()[0])
  say('executable', sys.executable)
  say('prefix', sys.prefix)
  say('base_prefix', getattr(sys, 'base_prefix', sys.prefix))
  say('implementation', sys.implementation.name if hasattr(sys, 'implementation') else 'cpython')
  say('free_threaded', int(bool(get('Py_GIL_DISABLED'))))
  say('suffix', get('EXT_SUFFIX'))
  name = get('INSTSONAME') or get('LDLIBRARY') or ''
  places = []
  try:
      for line in open('/proc/self/maps'):
          path = line.split(None, 5)[5].strip() if len(line.split(None, 5)) == 6 else ''
          if os.path.basename(path).startswith('libpython%d.%d' % sys.version_info[:2]): places.append(path)
  except OSError:
      pass
  if '.so' in name:
      for place in (get('LIBDIR'), os.path.join(getattr(sys, 'base_prefix', sys.prefix), 'lib'), os.path.join(get('LIBDIR') or '', get('MULTIARCH') or ''), get('LIBPL')):
          if place: places.append(os.path.join(place, name))
  found = [place for place in places if os.path.isfile(place)]
  say('libpython', os.path.realpath(found[0]) if found else '')
  """

  @type t :: %{
          executable: String.t(),
          version: String.t(),
          implementation: String.t(),
          prefix: String.t(),
          base_prefix: String.t(),
          free_threaded: boolean,
          libpython: String.t() | nil,
          engine: engine | nil,
          why: String.t(),
          engines: %{engine => {:ok, String.t()} | {:error, String.t()}}
        }
  @type engine :: :namespaces | :subinterpreters | :threads

  @doc """
  What a Python is, asked of itself: `python` as the option of `Typhon.start_link/1`.

  The map has its `:executable`, `:version`, `:implementation`, `:prefix`, `:base_prefix`, whether it is `:free_threaded`,
  `:libpython` (the shared library that `isolation: :interpreter` needs, `nil` when there is none), and the `:engine` that
  `engine: :auto` takes, with a sentence that says `:why`; `nil` when it can only be run in a process of its own. `:engines`
  says of each engine whether it runs this Python, and why (not).
  """
  @spec describe(String.t(), keyword) :: {:ok, t} | {:error, StartError.t()}
  def describe(python \\ "python3", options \\ []) do
    cd = options |> Keyword.get(:cd, ".") |> Path.expand()

    with {:ok, path} <- Python.find(python, cd),
         :ok <- Program.check(path, :python),
         {:ok, fields} <- ask(path, Keyword.get(options, :env, [])) do
      libpython = if fields["libpython"] == "", do: nil, else: fields["libpython"]

      env = %{
        executable: fields["executable"],
        version: fields["version"],
        implementation: fields["implementation"],
        prefix: fields["prefix"],
        base_prefix: fields["base_prefix"],
        free_threaded: fields["free_threaded"] == "1",
        libpython: libpython
      }

      engines = Map.new([:namespaces, :subinterpreters, :threads], &{&1, engine(&1, env, fields["suffix"])})
      # The one that runs any extension module.
      auto = if env.free_threaded, do: :threads, else: :namespaces

      case engines[auto] do
        {:ok, why} -> {:ok, Map.merge(env, %{engine: auto, why: why, engines: engines})}
        {:error, why} -> {:ok, Map.merge(env, %{engine: nil, why: why, engines: engines})}
      end
    end
  end

  @doc """
  How many interpreters this VM has started, what they do, and how many more it can have.

      iex> %{namespaces: %{limit: _, used: _, idle: _, busy: _, quarantined: _}} = Typhon.Env.capacity()

  `:namespaces` are whole Pythons, which run jobs or are hosts of sub-interpreters (`:hosts`); of `:subinterpreters` there may be
  as many as memory allows. `:idle` ones wait for a worker, `:busy` ones have one, `:quarantined` ones run something that their
  worker has given up or left behind, `:worn` ones never have another worker. `docs/isolation.md` says more.
  """
  @spec capacity :: %{namespaces: map, subinterpreters: map}
  def capacity, do: Interpreters.figures()

  # Whether this engine runs it, and why.
  defp engine(engine, env, suffix) do
    with :ok <- loadable(env), :ok <- built(env, "_native" <> suffix), do: suits(engine, env)
  end

  # A Python without a GIL needs a native module of its own.
  defp built(%{free_threaded: false}, _module), do: :ok

  defp built(env, module) do
    if File.exists?(Path.join([Native.priv_path("python"), "typhon", module])) do
      :ok
    else
      {:error,
       "it has no GIL, and Typhon was built without a native module for it (#{module}): run mix compile with " <>
         "TYPHON_FREE_THREADED=#{env.executable} in the environment; its headers must be installed"}
    end
  end

  defp loadable(%{implementation: other}) when other != "cpython",
    do: {:error, "#{other} cannot be loaded into another program; isolation: :process runs it"}

  defp loadable(%{libpython: nil} = env) do
    {:error,
     "#{env.executable} has no shared library (libpython#{minor(env.version)}.so). On Debian: apt-get install " <>
       "libpython#{minor(env.version)}; with pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install; uv's Pythons have one"}
  end

  defp loadable(env) do
    cond do
      Python.too_old?(env.version) ->
        {:error,
         "Typhon needs Python #{Python.minimum()} or newer, and #{env.executable} is Python #{env.version}"}

      not glibc?() ->
        {:error, "namespaces need Linux with glibc"}

      true ->
        :ok
    end
  end

  # Whether it is a Python for that.
  defp suits(:namespaces, env),
    do: {:ok, "Linux with glibc, and #{shared(env)} is a shared library: a whole CPython for each worker"}

  defp suits(:subinterpreters, env) do
    cond do
      env.free_threaded ->
        {:error, "a free-threaded Python has no GIL that each could have; engine: :threads runs it"}

      Python.at_least?(env.version, "3.12") ->
        {:ok, "interpreters with a GIL of their own in one #{shared(env)}, for pure Python"}

      true ->
        {:error,
         "interpreters with a GIL of their own came with Python 3.12, and this is #{env.version}; engine: :namespaces runs it"}
    end
  end

  defp suits(:threads, %{free_threaded: true} = env),
    do: {:ok, "#{shared(env)} is free-threaded: one interpreter, whose threads run at the same time"}

  defp suits(:threads, env),
    do: {:ok, "one interpreter of #{shared(env)}, whose threads take turns: for work that waits"}

  defp shared(env), do: Path.basename(env.libpython)

  defp minor(version), do: version |> String.split(".") |> Enum.take(2) |> Enum.join(".")

  defp glibc? do
    :os.type() == {:unix, :linux} and
      :erlang.system_info(:system_architecture) |> List.to_string() |> String.contains?("gnu")
  end

  # An interpreter that is replaced has another time stamp. The environment is that of its pool: a Python that does not start in
  # it says so here, and would end the VM there.
  defp ask(path, variables) do
    read = variables |> Interpreters.environment() |> Interpreters.read_at_start()
    key = {__MODULE__, path, File.stat!(path).mtime, read}

    case :persistent_term.get(key, nil) do
      nil ->
        with {:ok, fields} = ok <- run(path, variables) do
          :persistent_term.put(key, fields)
          ok
        end

      fields ->
        {:ok, fields}
    end
  end

  defp run(path, variables) do
    variables = variables ++ Enum.map(Interpreters.unwanted(), &{&1, nil})

    case Program.run(path, ["-c", @script], @timeout, variables) do
      {text, 0} ->
        fields =
          for "typhon:" <> line <- String.split(text, "\n"), into: %{} do
            [name, value] = String.split(line, "=", parts: 2)
            {name, value}
          end

        if fields == %{},
          do: failed(path, "#{path} did not say what it is, and so is no Python:\n#{text}"),
          else: {:ok, fields}

      {text, status} when is_integer(status) ->
        failed(path, "#{path} exited with status #{status} when it was asked what it is:\n#{text}")

      :timeout ->
        failed(path, "#{path} did not say what it is within #{@timeout} ms")

      {:error, reason} ->
        failed(path, "#{path} could not be asked what it is: #{Exception.format_exit(reason)}")
    end
  end

  defp failed(path, message), do: {:error, Language.start_error(:python, :exit, path, message)}
end
