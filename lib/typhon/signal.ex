defmodule Typhon.Signal do
  @moduledoc false
  # The exit status of a Port: that of the process, or 128 and the number of the signal that ended it.

  @names %{
    1 => "SIGHUP",
    2 => "SIGINT",
    3 => "SIGQUIT",
    4 => "SIGILL",
    5 => "SIGTRAP",
    6 => "SIGABRT",
    7 => "SIGBUS",
    8 => "SIGFPE",
    9 => "SIGKILL",
    10 => "SIGUSR1",
    11 => "SIGSEGV",
    12 => "SIGUSR2",
    13 => "SIGPIPE",
    14 => "SIGALRM",
    15 => "SIGTERM",
    24 => "SIGXCPU",
    25 => "SIGXFSZ",
    31 => "SIGSYS"
  }

  @spec split(nil | non_neg_integer) :: {nil | non_neg_integer, nil | String.t()}
  def split(nil), do: {nil, nil}

  def split(status) when status > 128 and status < 128 + 65,
    do: {status, Map.get(@names, status - 128, "signal #{status - 128}")}

  def split(status), do: {status, nil}
end
