defmodule Typhon.ErlangTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  # Runs Erlang source, as a user of Erlang would write it.
  defp erlang(source, bindings) do
    {:ok, tokens, _} = source |> String.to_charlist() |> :erl_scan.string()
    {:ok, expressions} = :erl_parse.parse_exprs(tokens)
    {:value, value, _} = :erl_eval.exprs(expressions, bindings)
    value
  end

  test "the calls of the documentation" do
    assert erlang(
             """
             {ok, Py} = 'Elixir.Typhon':start_link([{workers, 1}, {stdio, discard}, {python_path, [PyDir]}]),
             {ok, 4.0} = 'Elixir.Typhon':call(Py, math, sqrt, [16]),
             {ok, 1.75} = 'Elixir.Typhon':call(Py, statistics, fmean, [[1, 2]],
                                               [{kwargs, \#{weights => [1, 3]}}, {timeout, 5000}]),
             {ok, <<"a,b">>} = 'Elixir.Typhon':call(Py, builtins, 'str.join', [<<",">>, [<<"a">>, <<"b">>]]),
             {error, Error = \#{'__struct__' := 'Elixir.Typhon.PythonError',
                               type := <<"ZeroDivisionError">>}} =
                 'Elixir.Typhon':call(Py, operator, truediv, [1, 0]),
             <<"Traceback (most recent call last):\\n", _/binary>> = 'Elixir.Exception':message(Error),
             ok = 'Elixir.Typhon':cast(Py, sample, put, [<<"k">>, 1]),
             {ok, 1} = 'Elixir.Typhon':call(Py, sample, get, [<<"k">>]),
             4.0 = 'Elixir.Typhon':'call!'(Py, math, sqrt, [16]),
             'Elixir.Typhon':stop(Py).
             """,
             PyDir: String.to_charlist(py_dir())
           ) == :ok
  end

  test "as the child of an Erlang supervisor" do
    assert erlang(
             """
             Spec = 'Elixir.Typhon':child_spec([{name, typhon_erlang}, {workers, 1}, {stdio, discard}]),
             typhon_erlang = maps:get(id, Spec),
             {M, F, A} = maps:get(start, Spec),
             {ok, _} = apply(M, F, A),
             Result = 'Elixir.Typhon':call(typhon_erlang, math, sqrt, [16]),
             ok = 'Elixir.Typhon':stop(typhon_erlang),
             Result.
             """,
             []
           ) == {:ok, 4.0}
  end
end
