defmodule Typhon.Native do
  @moduledoc false
  # The door to native/beam. docs/internals.md ("Typhon.Native") is the contract; nothing here decides anything.

  @on_load :load

  @typedoc "A resource: an array of channels, one for each worker."
  @type pool :: reference
  @typedoc "A resource: one worker's shared memory, its reader thread and its calls in flight."
  @type channel :: reference
  @typedoc "A resource: a file descriptor of this process."
  @type descriptor :: reference
  @type id :: non_neg_integer
  @typedoc "Names the channel of a call within its pool."
  @type where :: non_neg_integer | channel
  @type timings ::
          {queue_ns :: integer, decode_ns :: integer, run_ns :: integer, encode_ns :: integer,
           transfer_ns :: integer}
  @type handle :: reference
  @typedoc "By the name of the module, as far as that is known: what the worker says may be anything."
  @type importing :: {:importing, binary}
  @typedoc "A resource: a caller that waits for a worker."
  @type ticket :: reference
  @type overload ::
          {:overload, queued :: non_neg_integer, workers :: non_neg_integer, concurrency :: pos_integer,
           max_queue :: non_neg_integer}
  @typedoc "Bits as `Typhon.Wire` names them. With `where`: that channel and no other."
  @type flags :: non_neg_integer | {non_neg_integer, where, parent :: id}
  @type reply ::
          {:ok, term}
          | {:error, wire_error}
          | {:segment, handle}
          | {:down, term}
          | {:timed, reply, timings}
  @typedoc "What comes before the end of a call; `Typhon.Request` has the list."
  @type event ::
          {:wait, where, id, timeout}
          | {:ask, where, id, timeout, {:ask, tag :: non_neg_integer, reply}}
          | {:not_started, timeout}
          | {:gone, {:down, term}}
  @type wire_error ::
          {:exception, binary, binary, [tuple], [binary], nil | tuple, binary}
          | {:cannot_decode, binary, binary}
          | {:cannot_encode, binary, binary, binary}
          | {:cannot_decode_result, binary, binary}
          | :expired
          | :cancelled
          | {:bad_frame, binary}

  # Atoms that workers send of their own accord. An atom that does not exist is refused, and a module that would bring one of
  # these may not have been loaded yet, or may not be there at all (Decimal).
  @wire_atoms [
    # errors
    :exception,
    :cause,
    :context,
    :cannot_decode,
    :cannot_encode,
    :expired,
    :cancelled,
    :bad_frame,
    # values
    nil,
    true,
    false,
    :nan,
    :infinity,
    :neg_infinity,
    # what Python asks
    :call,
    :apply,
    :pull,
    :print,
    :log,
    :cast_failed,
    :caller,
    :self,
    :send,
    # structs
    Typhon.Object,
    :id,
    :type,
    :repr,
    Typhon.Array,
    :shape,
    :dtype,
    :data,
    Date,
    Time,
    NaiveDateTime,
    DateTime,
    Calendar.ISO,
    :calendar,
    :year,
    :month,
    :day,
    :hour,
    :minute,
    :second,
    :microsecond,
    :time_zone,
    :zone_abbr,
    :utc_offset,
    :std_offset,
    MapSet,
    :map,
    :version,
    Range,
    :first,
    :last,
    :step,
    Decimal,
    :sign,
    :coef,
    :exp,
    :NaN,
    :inf
  ]

  @doc false
  @spec wire_atoms :: [atom]
  def wire_atoms, do: @wire_atoms

  @doc false
  def load do
    path = :filename.join(priv_dir(), ~c"typhon_nif")

    case :erlang.load_nif(path, 0) do
      :ok ->
        :persistent_term.erase({__MODULE__, :load_error})
        :ok

      # Old code with a working library is in place: keep it.
      {:error, {kind, _}} = error when kind in [:upgrade, :reload] ->
        error

      # Stay loaded, so that start_link can say what is wrong.
      {:error, {_kind, text}} ->
        :persistent_term.put({__MODULE__, :load_error}, List.to_string(text))
        :ok
    end
  end

  @doc false
  # Falls back to the place beside ebin/ when the code server knows no application (a lone .beam directory).
  def priv_dir do
    case :code.priv_dir(:typhon) do
      {:error, :bad_name} ->
        __MODULE__ |> :code.which() |> :filename.dirname() |> :filename.join(~c"../priv")

      dir ->
        dir
    end
  end

  @doc "The absolute path of something in priv/."
  @spec priv_path(String.t()) :: String.t()
  def priv_path(name), do: priv_dir() |> List.to_string() |> Path.expand() |> Path.join(name)

  @doc "How many atoms Python may bring: half of the room that there is. Of all channels the first one's counts."
  @spec atom_room :: non_neg_integer
  def atom_room, do: div(:erlang.system_info(:atom_limit) - :erlang.system_info(:atom_count), 2)

  @doc "The file that priv/ would have to be in, when the application lies in an archive such as an escript; or nil."
  @spec archive :: nil | String.t()
  def archive, do: "" |> priv_path() |> file_above()

  defp file_above(path) do
    cond do
      File.regular?(path) -> path
      File.dir?(path) or Path.dirname(path) == path -> nil
      true -> path |> Path.dirname() |> file_above()
    end
  end

  @doc "Why the library could not be loaded, or nil."
  @spec load_error :: nil | String.t()
  def load_error, do: :persistent_term.get({__MODULE__, :load_error}, nil)

  @spec pool_new(pos_integer) :: pool
  def pool_new(_size), do: :erlang.nif_error(:not_loaded)

  @spec pool_new(pos_integer, %{
          optional(:max_queue) => non_neg_integer | :infinity,
          optional(:concurrency) => pos_integer
        }) :: pool
  def pool_new(_size, _options), do: :erlang.nif_error(:not_loaded)

  @doc "Calls that do not name a reserved place's channel pass it by."
  @spec pool_reserve(pool, non_neg_integer, boolean) :: :ok
  def pool_reserve(_pool, _index, _reserved), do: :erlang.nif_error(:not_loaded)

  @doc "Whether `pool_place/2` gives a place out. All are active at first."
  @spec pool_active(pool, non_neg_integer, boolean) :: :ok
  def pool_active(_pool, _index, _active), do: :erlang.nif_error(:not_loaded)

  @doc "The next call that finds no worker free sends `{:typhon, :busy}` to the pid; once."
  @spec pool_watch(pool, pid) :: :ok
  def pool_watch(_pool, _pid), do: :erlang.nif_error(:not_loaded)

  @doc "The calling process waits for a worker, and is counted until `pool_done/1` or its end. `always`: it is not refused."
  @spec pool_wait(pool, boolean) :: {:ok, ticket} | overload
  def pool_wait(_pool, _always), do: :erlang.nif_error(:not_loaded)

  @spec pool_done(ticket) :: :ok
  def pool_done(_ticket), do: :erlang.nif_error(:not_loaded)

  @doc "The least loaded place that is not reserved."
  @spec pool_pick(pool) :: {non_neg_integer, where} | :none
  def pool_pick(_pool), do: :erlang.nif_error(:not_loaded)

  @doc "The place that belongs to a key's hash."
  @spec pool_place(pool, non_neg_integer) :: non_neg_integer
  def pool_place(_pool, _hash), do: :erlang.nif_error(:not_loaded)

  @doc "The places that have a channel, as `{index, reserved?, in_flight, serial}`, and how many callers wait for one."
  @spec pool_info(pool) :: %{
          places: [{non_neg_integer, boolean, non_neg_integer, non_neg_integer}],
          waiting: non_neg_integer,
          size: pos_integer,
          concurrency: pos_integer,
          max_queue: non_neg_integer | :infinity
        }
  def pool_info(_pool), do: :erlang.nif_error(:not_loaded)

  @typedoc "Counters of one channel, since it was opened; `segment_bytes` is what large requests take at this moment."
  @type ring :: %{
          requests: non_neg_integer,
          replies: non_neg_integer,
          wakes: non_neg_integer,
          missed_spins: non_neg_integer,
          waits_for_room: non_neg_integer,
          segment_bytes: non_neg_integer
        }

  @spec pool_rings(pool) :: [{place :: non_neg_integer, serial :: non_neg_integer, ring}]
  def pool_rings(_pool), do: :erlang.nif_error(:not_loaded)

  @spec pool_put(pool, non_neg_integer, channel | nil) :: :ok
  def pool_put(_pool, _index, _channel), do: :erlang.nif_error(:not_loaded)

  @spec pool_sweep(pool) :: :ok
  def pool_sweep(_pool), do: :erlang.nif_error(:not_loaded)

  @spec channel_open(pid, map) ::
          {:ok, channel, %{fd: integer, os_pid: integer}} | {:error, binary}
  def channel_open(_owner, _options), do: :erlang.nif_error(:not_loaded)

  @spec channel_close(channel, term) :: :ok
  def channel_close(_channel, _reason), do: :erlang.nif_error(:not_loaded)

  @spec channel_finish(channel, term) :: :ok | :busy
  def channel_finish(_channel, _reason), do: :erlang.nif_error(:not_loaded)

  @spec channel_notify(channel, pos_integer) :: :ok | :reached
  def channel_notify(_channel, _count), do: :erlang.nif_error(:not_loaded)

  @doc """
  What has become of a call that was given up: its worker has taken nothing since (`:waiting`), though it runs no call nor cast
  (`:ignored`), it runs it, it imports a module for it, or all is well (`nil`).
  """
  @spec abandoned(channel, id) :: :waiting | :ignored | :running | importing | nil
  def abandoned(_channel, _id), do: :erlang.nif_error(:not_loaded)

  @doc "What a worker imports, on whichever of its threads."
  @spec importing(channel) :: importing | nil
  def importing(_channel), do: :erlang.nif_error(:not_loaded)

  @doc "What the worker of a call imports for it at this moment: the thread that runs it does nothing else."
  @spec importing(pool, where, id) :: importing | nil
  def importing(_pool, _where, _id), do: :erlang.nif_error(:not_loaded)

  @spec channel_info(channel) :: map
  def channel_info(_channel), do: :erlang.nif_error(:not_loaded)

  @doc "Large binaries out on loan, as `{count, bytes}`: the VM's that Pythons in it read, Pythons' that binaries lie in."
  @spec loans :: %{
          lent: {non_neg_integer, non_neg_integer},
          borrowed: {non_neg_integer, non_neg_integer}
        }
  def loans, do: :erlang.nif_error(:not_loaded)

  @doc "Bytes of private memory for results, of all pools: that binaries lie in, that are kept for the next results, and how many may be `held`."
  @spec results :: %{held: non_neg_integer, cached: non_neg_integer, limit: non_neg_integer}
  def results, do: :erlang.nif_error(:not_loaded)

  @spec call(
          pool,
          reference,
          0 | 1,
          atom | binary | Typhon.Object.t(),
          atom | binary,
          list,
          map,
          non_neg_integer | :infinity,
          flags
        ) ::
          reply
          | event
          | {:room, channel}
          | :ok
          | {:encoder}
          | {:cannot_encode, binary, binary}
          | :no_worker
          | {:held, place :: non_neg_integer}
          | overload
  def call(_pool, _ref, _kind, _module, _function, _args, _kwargs, _timeout, _flags),
    do: :erlang.nif_error(:not_loaded)

  @doc "A large reply. What is garbage of the calling process does not stand in its way."
  @spec read(handle) :: reply
  def read(handle) do
    with :held <- decode(handle) do
      :erlang.garbage_collect()
      decode(handle)
    end
  end

  # `:held`, once: so much is held already that there is no room for it.
  @spec decode(handle) :: reply | :held
  def decode(_handle), do: :erlang.nif_error(:not_loaded)

  @doc "A message, or an answer to what Python asked. With `id`: whoever made that call answers, and gets what comes next in it."
  @spec tell(pool | nil, where, id, reference, kind :: 0..30, non_neg_integer, term) ::
          :ok | {:room, channel} | {:encoder} | {:cannot_encode, binary, binary} | reply | event
  def tell(_pool, _where, _id, _ref, _kind, _tag, _term), do: :erlang.nif_error(:not_loaded)

  @doc "The caller of a call has dealt with one thing that it was asked or told, and gets what comes next."
  @spec next(pool, where, id, reference) :: reply | event
  def next(_pool, _where, _id, _ref), do: :erlang.nif_error(:not_loaded)

  @doc "Gives a call up. `:delivered`: its answer lies in the mailbox; else it does not come any more."
  @spec cancel(pool, where, id) :: :cancelled | :not_started | :delivered | {:delivered, reply}
  def cancel(_pool, _where, _id), do: :erlang.nif_error(:not_loaded)

  @doc "The numbers that are named on both sides, as the library has them: `Typhon.Wire.numbers/0`."
  @spec numbers :: %{atom => non_neg_integer}
  def numbers, do: :erlang.nif_error(:not_loaded)

  @doc "Whether a worker may be replaced while the object of this handle lives (false) or not (true)."
  @spec hold(reference, boolean) :: :ok
  def hold(_object, _hold?), do: :erlang.nif_error(:not_loaded)

  @doc "Whether the objects of two handles live in one worker."
  @spec same_worker?(reference, reference) :: boolean
  def same_worker?(_one, _other), do: :erlang.nif_error(:not_loaded)

  @spec cancel_room(channel, reference) :: :ok
  def cancel_room(_channel, _ref), do: :erlang.nif_error(:not_loaded)

  @doc """
  The process that says it serves the channel is the owner's worker: that of its Port, or a descendant of it. From then on kill/2
  reaches it, and never another process that has its number.
  """
  @spec adopt(channel, port_os_pid :: pos_integer, claimed :: term) :: :ok | {:error, :foreign | :no_process}
  def adopt(_channel, _port, _claimed), do: :erlang.nif_error(:not_loaded)

  @doc "The owner has dealt with so many statements (kind 0), questions (1), or questions in the name of calls given up (2)."
  @spec channel_heard(channel, 0..2, non_neg_integer) :: :ok
  def channel_heard(_channel, _kind, _count), do: :erlang.nif_error(:not_loaded)

  @doc "Whether Python may send to it: always, unless the channel has an allow list."
  @spec handed?(pool | nil, where, term) :: boolean
  def handed?(_pool, _where, _term), do: :erlang.nif_error(:not_loaded)

  @doc "Whether a message is one that Python may not send to `dest`, unless that is itself; with an allow list some are."
  @spec control?(pool | nil, where, dest :: pid | nil, term) :: boolean
  def control?(_pool, _where, _dest, _message), do: :erlang.nif_error(:not_loaded)

  @doc "What Python sends to its own pid: the owner gets `{:typhon, channel, {:post, message}}`. `:none`: it is another's pid."
  @spec post(pool | nil, where, pid, term) :: :ok | :none | :gone
  def post(_pool, _where, _pid, _message), do: :erlang.nif_error(:not_loaded)

  @doc "The process gets the message when nothing on this node holds the result any more."
  @spec notifier(pid, message :: term) :: reference
  def notifier(_pid, _message), do: :erlang.nif_error(:not_loaded)

  @spec kill(channel, pos_integer) :: :ok | {:error, atom}
  def kill(_channel, _signal), do: :erlang.nif_error(:not_loaded)

  @spec kill_pid(integer, non_neg_integer) :: :ok | {:error, atom}
  def kill_pid(_os_pid, _signal), do: :erlang.nif_error(:not_loaded)

  @spec process_watch(pos_integer) :: {:ok, descriptor} | {:error, atom}
  def process_watch(_os_pid), do: :erlang.nif_error(:not_loaded)

  @doc "Loads one more Python into this process; it cannot be unloaded. The socket is for interpreter_job/3."
  @spec interpreter_start(%{
          libpython: String.t(),
          bridge: String.t(),
          guard: String.t(),
          program: String.t(),
          package: String.t(),
          environment: [String.t()],
          host: boolean
        }) :: {:ok, descriptor} | {:error, String.t()}
  def interpreter_start(_spec), do: :erlang.nif_error(:not_loaded)

  @doc "The socket of one more sub-interpreter of a host; what goes wrong comes by it, or it is closed."
  @spec interpreter_spawn(descriptor) :: {:ok, descriptor} | {:error, String.t()}
  def interpreter_spawn(_host), do: :erlang.nif_error(:not_loaded)

  @doc "A pipe for a worker's output, read here, and the number of its other end. Both go with the calling process."
  @spec output_open :: {:ok, descriptor, fd :: integer} | {:error, String.t()}
  def output_open, do: :erlang.nif_error(:not_loaded)

  @doc "Hands it a job, with the memory of a channel and a pipe for output. Its control pipe goes with the calling process."
  @spec interpreter_job(descriptor, binary, integer, descriptor) :: {:ok, descriptor} | {:error, String.t()}
  def interpreter_job(_socket, _job, _memory, _output), do: :erlang.nif_error(:not_loaded)

  @doc "After `:again` the caller gets {:select, descriptor, _, :ready_input}."
  @spec descriptor_read(descriptor) :: {:ok, binary} | :again | :eof | {:error, String.t()}
  def descriptor_read(_descriptor), do: :erlang.nif_error(:not_loaded)

  @spec descriptor_write(descriptor, binary) :: :ok | {:error, String.t()}
  def descriptor_write(_descriptor, _bytes), do: :erlang.nif_error(:not_loaded)

  @spec descriptor_close(descriptor) :: :ok
  def descriptor_close(_descriptor), do: :erlang.nif_error(:not_loaded)
end
