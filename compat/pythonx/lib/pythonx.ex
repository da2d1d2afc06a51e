defmodule Pythonx do
  @moduledoc """
  Pythonx's interface, in front of one Python of Typhon's: a process of its own, or inside the VM with
  `config :pythonx, isolation: :interpreter`.

      {result, globals} = Pythonx.eval("y = x * 2\\ny + 1", %{"x" => 20})
      Pythonx.decode(result)          # => 41
      Pythonx.decode(globals["y"])    # => 40

  `docs/from-pythonx.md` says how to switch, and what is different.

  ## Configuration

      config :pythonx, isolation: :process, python: "python3", concurrency: 16

    * `:isolation` – `:process` (the default) or `:interpreter`
    * `:python` – the interpreter where `uv_init/2` says none: a command, a path or a virtualenv. Default: `"python3"`
    * `:concurrency` – how many evaluations, decodings and encodings run at the same time. Default: 16
    * `:uv_init` – `[pyproject_toml: text]` with further options of `uv_init/2`: done when the application starts
  """

  alias Pythonx.{Evaluation, Names, Object, Project, Python, Remote, Terms}

  @type encoder :: (term, encoder -> Object.t())
  @type globals :: %{optional(String.t()) => term}
  @type result :: {Object.t() | nil, %{optional(String.t()) => Object.t()}}

  @doc """
  Makes the environment that the text of a `pyproject.toml` describes, and starts a Python in it.

  With the command `uv` on the `PATH` that is `uv sync`, in a cache folder, without the user's own configuration of uv.
  Without it the configured interpreter must have what the text asks for; else the error says what is missing. A Python that
  runs already is replaced, and its objects are gone.

    * `:force` – true: the environment is made anew. Default: `false`
    * `:python` – the version of Python, as `uv sync --python` takes it
    * `:native_tls` – true: uv trusts the certificates of the operating system. Default: `false`
    * `:uv_version` – accepted, and without effect: the `uv` of the `PATH` is used
  """
  @spec uv_init(String.t(), keyword) :: :ok
  def uv_init(pyproject_toml, options \\ []) when is_binary(pyproject_toml) and is_list(options),
    do: Project.init!(pyproject_toml, options)

  @doc """
  Runs code. Gives the object of its last expression, or nil when it ends in a statement, and all globals that are there then.

  The globals are objects, or terms that become objects as by `encode!/2`. The code has a `__main__` of its own, whatever
  else runs at the same time. What it raises is a `Pythonx.Error`; when Python itself ends, the error is a
  `Typhon.WorkerError`, and the next evaluation has a new Python.

    * `:stdout_device`, `:stderr_device` – the processes that get what is printed, pids or registered names. Default: the
      caller's group leader, and `:standard_error`

  What is evaluated is given up when its caller ends.
  """
  @spec eval(String.t(), globals, keyword) :: result
  def eval(code, globals, options \\ []) when is_binary(code) and is_map(globals) and is_list(options) do
    {stdout, stderr} = Evaluation.devices!(options)
    Evaluation.run(code, Evaluation.named!(globals), stdout, stderr, &Pythonx.Encoder.encode/2)
  end

  @doc ~S'''
  Runs code among Elixir's: variables that it uses go in, and what it assigns become variables.

      import Pythonx

      x = 1

      ~PY"""
      y = x + 1
      """

      y    # a Pythonx.Object, 2

  The names are looked for while the code around it is compiled, by a Python that is started then if there is none: the sigil may
  stand in modules of a project. A name that a branch not taken would have assigned is nil.
  '''
  defmacro sigil_PY({:<<>>, _meta, [code]}, []) when is_binary(code) do
    {used, defined} = Names.scan(code)
    caller = __CALLER__

    # What Elixir does not have is left to Python, whose error says so.
    globals = for name <- used, variable?(caller, name), do: {name, variable(name, [])}

    assignments =
      for name <- defined do
        quote do
          unquote(variable(name, generated: true)) = Map.get(globals, unquote(name))
        end
      end

    # Livebook looks for this very call.
    quote do
      {result, globals} = Pythonx.eval(unquote(code), unquote({:%{}, [], globals}))
      unquote({:__block__, [], assignments})
      result
    end
  end

  defp variable?(env, name), do: Macro.Env.has_var?(env, {String.to_atom(name), nil})
  defp variable(name, meta), do: {String.to_atom(name), meta, nil}

  @doc """
  The object that a term becomes in Python.

  nil, booleans and numbers are those of Python, other atoms `str`, binaries `bytes`, lists, tuples, maps and MapSets `list`,
  `tuple`, `dict` and `set`, pids `pythonx.PID`; objects are what they are. Other structs need an implementation of
  `Pythonx.Encoder`. An `encoder` of one's own is called for each element.
  """
  @spec encode!(term, encoder) :: Object.t()
  def encode!(term, encoder \\ &Pythonx.Encoder.encode/2), do: encoder.(term, encoder)

  @doc """
  The term that an object is, when it consists of `None`, `bool`, `int`, `float`, `str`, `bytes`, `tuple`, `list`, `dict`, `set`,
  `frozenset` and `pythonx.PID`. Whatever else is in there stays an object.
  """
  @spec decode(Object.t()) :: term
  def decode(%Object{} = object) do
    object = Object.local!(object, "decoded")

    case Python.call!("decode", [object.resource]) do
      {false, _, _} -> object
      {true, false, term} -> term
      {true, true, term} -> Terms.with_objects(term)
    end
  end

  def decode(nil) do
    raise ArgumentError,
          "Pythonx.decode/1 takes an object, and got nil. An evaluation gives nil when the code ends in a statement: " <>
            "end it in an expression, or take the object from the globals"
  end

  @doc "Environment variables by which Pythonx on another node is initialized as this one is, when it starts."
  @spec install_env :: %{String.t() => String.t()}
  def install_env, do: Project.install_env()

  @doc "The folders that such an initialization needs."
  @spec install_paths :: [String.t()]
  def install_paths, do: Project.install_paths()

  @doc """
  As `eval/3`, on another node. Objects in the globals are copied there (`copy_remote_object/1`).

  The objects that come back live there, for as long as the struct is held here.
  """
  @spec remote_eval(node, String.t(), globals, keyword) :: result
  def remote_eval(node, code, globals, options \\ [])
      when is_atom(node) and is_binary(code) and is_map(globals) do
    {stdout, stderr} = Evaluation.devices!(options)
    Remote.eval(node, code, Evaluation.named!(globals), stdout, stderr)
  end

  @doc "A copy of an object of another node, by way of a pickle. An object of this node is given back as it is."
  @spec copy_remote_object(Object.t()) :: Object.t()
  def copy_remote_object(%Object{} = object), do: Remote.copy(object)
end
