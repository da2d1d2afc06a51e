defmodule Typhon.ErrorTest do
  use ExUnit.Case, async: true

  alias Typhon.{DecodeError, EncodeError, PoolError, PythonError, StartError, TimeoutError, WorkerError}

  doctest Typhon.PythonError
  doctest Typhon.RubyError

  @call {:math, :sqrt, [1], 5_000}

  describe "from_wire/2" do
    test "an exception with its cause" do
      cause = {:exception, "KeyError", "'k'", [{"m.py", 1, "f", "d['k']"}], [], nil, "cause text"}

      wire =
        {:exception, "m.OwnError", "outer", [{"m.py", 3, "g", "raise"}], ["note"], {:cause, cause}, "text\n"}

      assert %PythonError{
               type: "m.OwnError",
               message: "outer",
               traceback: [%{file: "m.py", line: 3, function: "g", source: "raise"}],
               notes: ["note"],
               cause_kind: :cause,
               cause: %PythonError{type: "KeyError", cause: nil, cause_kind: nil}
             } = error = Typhon.Error.from_wire(wire, @call)

      assert Exception.message(error) == "text"
    end

    test "values that cannot cross" do
      assert %EncodeError{path: "args[0]"} = Typhon.Error.from_wire({:cannot_decode, "args[0]", "m"}, @call)

      assert %EncodeError{path: "result", type: "T"} =
               Typhon.Error.from_wire({:cannot_encode, "result", "T", "m"}, @call)

      assert %DecodeError{path: "result"} =
               Typhon.Error.from_wire({:cannot_decode_result, "result", "m"}, @call)
    end

    test "the deadline" do
      assert %TimeoutError{timeout: 5_000, module: :math, function: :sqrt, arity: 1} =
               Typhon.Error.from_wire(:expired, @call)
    end

    test "an interrupt that its caller did not ask for" do
      assert %WorkerError{reason: :stopped} = Typhon.Error.from_wire(:cancelled, @call)
    end

    test "what no executor sends" do
      assert %DecodeError{} = Typhon.Error.from_wire({:bad_frame, "x"}, @call)
      assert %DecodeError{} = Typhon.Error.from_wire(:surprise, @call)
    end
  end

  describe "from_down/1" do
    test "keeps what the worker's process said" do
      error = %WorkerError{reason: :signal, signal: "SIGKILL"}
      assert Typhon.Error.from_down(error) == error
    end

    test "what the native library says by itself" do
      assert %WorkerError{reason: :protocol} = Typhon.Error.from_down({:bad_frame, "x"})
      assert %WorkerError{reason: {:owner_down, _}} = Typhon.Error.from_down(:owner_down)
      assert %WorkerError{reason: :gone} = Typhon.Error.from_down(:closed)
    end
  end

  describe "message/1" do
    test "PythonError prints like Python, also without Python's own text" do
      error = %PythonError{
        type: "OwnError",
        message: "outer",
        traceback: [%{file: "m.py", line: 3, function: "g", source: "  raise OwnError"}],
        notes: ["a note"],
        cause_kind: :context,
        cause: %PythonError{type: "KeyError", message: "", traceback: []}
      }

      assert Exception.message(error) == """
             KeyError

             During handling of the above exception, another exception occurred:

             Traceback (most recent call last):
               File "m.py", line 3, in g
                 raise OwnError
             OwnError: outer
             a note\
             """
    end

    test "TimeoutError" do
      assert Exception.message(%TimeoutError{timeout: 5, module: "a.b", function: :c, arity: 1}) ==
               "a.b.c with 1 argument did not answer within 5 ms. The call has been cancelled. " <>
                 "Allow it more time with timeout: milliseconds | :infinity"
    end

    test "EncodeError and DecodeError" do
      assert Exception.message(%EncodeError{path: "args[0]", reason: "too odd"}) ==
               "args[0] cannot cross: too odd"

      assert Exception.message(%EncodeError{reason: "too odd"}) == "too odd"

      assert Exception.message(%DecodeError{path: "args[0]", reason: "too odd"}) ==
               "args[0] cannot be decoded: too odd"
    end

    test "WorkerError" do
      for {error, text} <- [
            {%WorkerError{reason: :exit, exit_status: 3, os_pid: 7},
             "the Python worker 7 exited with status 3"},
            {%WorkerError{reason: :exit}, "the worker ended"},
            {%WorkerError{reason: :signal, signal: "SIGKILL", os_pid: 7, output: ["a", "b"]},
             "the Python worker 7 was ended by SIGKILL. Its last output:\n    a\n    b"},
            {%WorkerError{reason: :signal, signal: "SIGSEGV", os_pid: 7, language: :ruby},
             "the Ruby worker 7 was ended by SIGSEGV"},
            {%WorkerError{reason: :stopped}, "the worker was stopped"},
            {%WorkerError{reason: :protocol}, "the worker broke the protocol and was killed"},
            {%WorkerError{reason: :gone}, "the worker is gone"},
            {%WorkerError{reason: :overdue},
             "the worker was killed: a call still ran when the pool's grace period after its deadline was over"},
            {%WorkerError{reason: {:owner_down, :killed}},
             "the worker lost the Elixir process in charge of it (killed)"}
          ] do
        assert Exception.message(error) == text
      end
    end

    test "StartError does not say a sentence twice" do
      error = %StartError{message: "too old", output: ["hint", "too old"]}
      assert Exception.message(error) == "too old. Its last output:\n    hint"
    end

    test "PoolError" do
      assert Exception.message(%PoolError{pool: My.Py, reason: :not_found}) =~ "name My.Py"
      assert Exception.message(%PoolError{pool: 1, reason: :invalid}) =~ "1 is not a Typhon pool"
      assert Exception.message(%PoolError{pool: self(), reason: :stopped}) =~ "has stopped"
      assert Exception.message(%PoolError{pool: :x, reason: :not_a_pool}) =~ "not a Typhon pool"
      assert Exception.message(%PoolError{pool: :x, reason: :not_running}) =~ "ensure_all_started"
      assert Exception.message(%PoolError{pool: :x, reason: {:remote, :n@h}}) =~ ":erpc.call(:n@h"
    end
  end

  describe "where an error is inspected, the sentence stands" do
    test "in what a supervisor says of a pool that does not start" do
      Process.flag(:trap_exit, true)
      child = {Typhon, name: Typhon.NeverStarted, workers: 1, python: "python9"}

      assert {:error,
              {:shutdown, {:failed_to_start_child, Typhon.NeverStarted, %Typhon.StartError{} = error}} =
                reason} = Supervisor.start_link([child], strategy: :one_for_one)

      sentence = Exception.message(error)
      assert Exception.format_exit(reason) =~ "#Typhon.StartError<:python_not_found - #{sentence}>"
    end

    test "in a match that fails" do
      start_supervised!({Typhon.Test, name: :inspected_errors})
      error = assert_raise MatchError, fn -> {:ok, _} = Typhon.call(:inspected_errors, :foo, :bar, [1]) end
      message = Exception.message(error)

      assert message =~
               "#Typhon.Test.UnexpectedCallError<:not_stubbed - foo.bar with 1 argument was called on :inspected_errors"

      assert message =~ ~s|\n    Typhon.Test.stub(:inspected_errors, "foo", "bar", fn arg1 -> … end)\n|
    end

    test "and not more of it than of any string" do
      error = %Typhon.PythonError{type: "E", text: String.duplicate("long ", 10_000)}
      assert String.length(inspect(error)) < 5_000

      assert inspect(error, printable_limit: :infinity) ==
               "#Typhon.PythonError<#{String.trim_trailing(error.text)}>"

      assert inspect(error, structs: false) =~ "type: \"E\""
    end

    test "for every error that there is" do
      {:ok, modules} = :application.get_key(:typhon, :modules)

      errors =
        for module <- modules,
            Code.ensure_loaded?(module),
            function_exported?(module, :exception, 1),
            do: module

      assert length(errors) >= 11

      for module <- errors, do: refute(Inspect.impl_for(struct(module)) == Inspect.Any)
      # One that cannot be put into words has its fields.
      assert inspect(%Typhon.PoolError{reason: {:strange}}) =~ "reason: {:strange}"
    end
  end
end
