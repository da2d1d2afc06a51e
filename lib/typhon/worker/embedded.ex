defmodule Typhon.Worker.Embedded do
  @moduledoc false
  # The interpreter in this VM that runs a worker's Python: what a Port is to an operating system process. Its end comes as
  # {:interpreter, socket, {:exit_status, code}}.

  alias Typhon.{Interpreters, Language, Native, StartError}

  @enforce_keys [:socket, :control]
  defstruct [:socket, :control]

  @type t :: %__MODULE__{
          socket: Native.descriptor(),
          control: Native.descriptor()
        }

  @doc "Gives an interpreter a channel to serve, that of `region`, and a pipe to print to."
  @spec open(map, %{fd: integer, os_pid: integer}, keyword, Native.descriptor()) ::
          {:ok, t} | {:error, StartError.t()}
  def open(config, region, settings, output) do
    environment = Interpreters.environment(config.env)

    with {:ok, socket, signal} <- Interpreters.borrow(config.interpreter, environment) do
      job =
        :erlang.term_to_binary(%{
          # A name that is no UTF-8 is one that no program looks for.
          "environment" =>
            for({name, value} <- environment, String.valid?(name), into: %{}, do: {name, text(value)}),
          "cd" => text(config.cd),
          "python_path" => Enum.map(config.paths, &text/1),
          "settings" =>
            Map.new([{:signal, signal} | settings], fn {name, value} -> {Atom.to_string(name), value} end)
        })

      case Native.interpreter_job(socket, job, region.fd, output) do
        {:ok, control} ->
          {:ok, %__MODULE__{socket: socket, control: control}}

        {:error, text} ->
          Interpreters.give_back(socket)

          {:error,
           Language.start_error(
             config.language,
             :interpreter_failed,
             config.program,
             "an interpreter inside the VM did not take its job: #{text}"
           )}
      end
    end
  end

  @spec command(t, iodata) :: boolean
  def command(embedded, text),
    do: Native.descriptor_write(embedded.control, IO.iodata_to_binary(text)) == :ok

  @doc "Tells it to end; Interpreters hears when it has."
  @spec close(t) :: :ok
  def close(embedded), do: Native.descriptor_close(embedded.control)

  @doc "It cannot be killed: it is set aside, for as long as what it runs does not end."
  @spec abandon(t) :: :ok
  def abandon(embedded) do
    :ok = Interpreters.quarantine(embedded.socket)
    send(self(), {:interpreter, embedded.socket, {:exit_status, nil}})
    :ok
  end

  @doc "Waits until it has ended, and sets it aside when that takes too long."
  @spec await_end(t, timeout) :: :ok
  def await_end(%{socket: socket}, timeout) do
    receive do
      {:interpreter, ^socket, _} -> :ok
    after
      timeout -> Interpreters.quarantine(socket)
    end
  end

  # A binary is text there; what is none goes as a list of bytes.
  defp text(bytes), do: if(String.valid?(bytes), do: bytes, else: :binary.bin_to_list(bytes))
end
