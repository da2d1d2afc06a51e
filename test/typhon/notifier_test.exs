defmodule Typhon.NotifierTest do
  use ExUnit.Case, async: true

  alias Typhon.Native

  test "the message comes when no process holds the note any more" do
    test = self()

    holder =
      spawn(fn ->
        note = Native.notifier(test, {:gone, node(), make_ref()})
        receive do: (:end -> note)
      end)

    :erlang.garbage_collect(holder)
    refute_received {:gone, _, _}
    send(holder, :end)
    here = node()
    assert_receive {:gone, ^here, ref} when is_reference(ref)
  end

  test "it is for a process of this node" do
    assert_raise ArgumentError, fn -> Native.notifier(:name, :message) end
  end
end
