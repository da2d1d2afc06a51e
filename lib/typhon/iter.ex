defmodule Typhon.Iter do
  @moduledoc """
  An enumerable that Python is to see as an iterator, see `Typhon.iter/1`.
  """

  # Python gets a Reference: it names the enumeration in the dictionary of the process that made the call, where it is
  # suspended between two batches. It ends with the call.

  @enforce_keys [:enumerable]
  defstruct [:enumerable]

  @type t :: %__MODULE__{enumerable: Enumerable.t()}

  defmodule Reference do
    @moduledoc false
    # What crosses.
    defstruct [:pull]
    @type t :: %__MODULE__{pull: reference}
  end

  @lent {__MODULE__, :lent}

  @doc false
  @spec to_reference(t) :: Reference.t()
  def to_reference(%__MODULE__{enumerable: enumerable}) do
    key = make_ref()
    Process.put({__MODULE__, key}, {:fresh, enumerable})
    Process.put(@lent, [key | Process.get(@lent, [])])
    %Reference{pull: key}
  end

  @doc false
  # One that another process has lent to this one: the function asks there for the next elements, as pull/2 does here.
  @spec lent((non_neg_integer -> {list, boolean})) :: Reference.t()
  def lent(fun) do
    key = make_ref()
    Process.put({__MODULE__, key}, {:elsewhere, fun})
    %Reference{pull: key}
  end

  @doc false
  # Runs a function; what is lent in its course is taken back at its end.
  @spec with_references((() -> result)) :: result when result: term
  def with_references(fun) do
    before = Process.get(@lent, [])

    try do
      fun.()
    after
      lent = Process.get(@lent, [])
      if before == [], do: Process.delete(@lent), else: Process.put(@lent, before)
      take_all_back(lent -- before)
    end
  end

  # Each of them, also when the clean-up of one raises.
  defp take_all_back([]), do: :ok

  defp take_all_back([key | keys]) do
    take_back(key)
  after
    take_all_back(keys)
  end

  @doc false
  # The next elements, at most `count`, and whether they are the last. 0: Python is done with it.
  @spec pull(reference, non_neg_integer) :: {list, boolean}
  def pull(key, count) do
    case Process.get({__MODULE__, key}) do
      nil ->
        raise ArgumentError,
              "this enumerable is not lent to Python any more: Typhon.iter/1 lends it for the time of one call (and not to a cast)"

      state ->
        # An enumerable that fails is at its end.
        Process.put({__MODULE__, key}, :done)
        next(key, state, count)
    end
  end

  defp next(_key, :done, _count), do: {[], true}

  defp next(key, {:elsewhere, fun} = state, count) do
    {_batch, last?} = next = fun.(count)
    unless last?, do: Process.put({__MODULE__, key}, state)
    next
  end

  defp next(_key, state, 0) do
    finish(state)
    {[], true}
  end

  defp next(key, state, count) do
    continue =
      case state do
        {:fresh, enumerable} ->
          &Enumerable.reduce(enumerable, &1, fn element, acc -> collect(element, acc) end)

        {:suspended, continue} ->
          continue
      end

    case continue.({:cont, {[], count}}) do
      {:suspended, {batch, _}, continue} ->
        Process.put({__MODULE__, key}, {:suspended, continue})
        {Enum.reverse(batch), false}

      {_, {batch, _}} ->
        {Enum.reverse(batch), true}
    end
  end

  defp collect(element, {batch, 1}), do: {:suspend, {[element | batch], 0}}
  defp collect(element, {batch, left}), do: {:cont, {[element | batch], left - 1}}

  defp take_back(key), do: {__MODULE__, key} |> Process.delete() |> finish()

  defp finish({:suspended, continue}) do
    continue.({:halt, {[], 0}})
    :ok
  end

  defp finish(_), do: :ok
end
