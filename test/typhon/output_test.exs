defmodule Typhon.Worker.OutputTest do
  use ExUnit.Case, async: true

  alias Typhon.Worker.Output

  # An I/O device that answers when the test wants it to.
  defp request do
    assert_receive {:io_request, from, ref, {:put_chars, :unicode, chars}}
    {fn -> send(from, {:io_reply, ref, :ok}) end, ref, chars}
  end

  defp lines(output, lines), do: Enum.reduce(lines, output, &Output.data(&2, &1 <> "\n"))

  # What Logger was given, it has.
  defp await_logged(output) do
    if Output.logged?(output) do
      output
    else
      assert_receive {:io_reply, _, :ok} = reply, 60_000
      output |> Output.message(reply) |> await_logged()
    end
  end

  defp pieces(text, size) when byte_size(text) <= size, do: [text]

  defp pieces(text, size) do
    <<piece::binary-size(size), rest::binary>> = text
    [piece | pieces(rest, size)]
  end

  describe "data/2" do
    test "sends a line with its end" do
      Output.new(self(), []) |> Output.data("hällo\n")
      assert {_, _, "hällo\n"} = request()
    end

    test "puts a long line together" do
      output = Output.new(self(), [])
      output = Output.data(output, "one ")
      refute_received {:io_request, _, _, _}
      Output.data(output, "two\n")
      assert {_, _, "one two\n"} = request()
    end

    test "passes a line without an end on in marked pieces" do
      piece = String.duplicate("x", 524_288)
      output = Output.new(self(), [])
      output = Output.data(output, piece)
      refute_received {:io_request, _, _, _}
      output = Output.data(output, piece)
      assert {_, _, chars} = request()
      assert String.ends_with?(chars, " … (the line goes on)\n")
      assert byte_size(chars) > 1_048_576
      Output.data(output, "end\n")
      assert {_, _, "end\n"} = request()
    end

    test "escapes bytes that are no characters" do
      Output.new(self(), []) |> Output.data(<<"a", 0xFF, "é\n">>)
      assert {_, _, "a\\xffé\n"} = request()
    end

    test "drops the carriage return of a terminal's line" do
      Output.new(self(), []) |> Output.data("a\r\nb\rc\r\nd\n")
      assert {_, _, "a\nb\rc\nd\n"} = request()
    end

    test "an unfinished line is one when the process ends" do
      Output.new(self(), []) |> Output.data("half") |> Output.flush() |> Output.flush()
      assert {_, _, "half\n"} = request()
      refute_received {:io_request, _, _, _}
    end
  end

  describe "a slow device" do
    test "gets what collected meanwhile in one piece" do
      output = Output.new(self(), []) |> lines(~w(1 2 3 4 5 6 7))

      [{answer, ref, "1\n"} | _] = for _ <- 1..4, do: request()
      refute_received {:io_request, _, _, _}

      answer.()
      output = Output.message(output, {:io_reply, ref, :ok})
      assert {_, _, "5\n6\n7\n"} = request()
      assert Output.message(output, {:io_reply, make_ref(), :ok}) == :unknown
    end

    test "does not make the worker's memory grow: lines beyond a bound are dropped and counted" do
      line = String.duplicate("x", 100_000)
      output = Output.new(self(), []) |> lines(List.duplicate(line, 20))
      [{_, ref, _} | _] = for _ <- 1..4, do: request()
      Output.message(output, {:io_reply, ref, :ok})
      {_, _, chars} = request()
      assert byte_size(chars) < 1_300_000
      assert chars =~ "… 5 lines of output were dropped: the I/O device is too slow"
    end

    test "drain/1 sends what is left" do
      output = Output.new(self(), []) |> lines(~w(1 2 3 4 5))
      for _ <- 1..4, do: request()
      Output.drain(output)
      assert {_, _, "5\n"} = request()
    end
  end

  describe "a dead device" do
    test "hands over to Logger, with what had collected" do
      device = spawn(fn -> Process.sleep(:infinity) end)
      output = Output.new(device, []) |> lines(~w(1 2 3 4 waited))
      Process.exit(device, :kill)
      assert_receive {:DOWN, _, :process, ^device, _} = down

      log =
        ExUnit.CaptureLog.capture_log(fn ->
          output = Output.message(output, down)
          assert output.target == :logger
          output = lines(output, ["later"])
          refute Output.logged?(output)
          assert Output.logged?(await_logged(output))
        end)

      assert log =~ "waited"
      assert log =~ "later"
    end
  end

  describe "Logger" do
    defp log(output, fun) do
      test = self()
      Output.log(output, fun, fn -> send(test, :taken) end, false)
    end

    test "is nobody's to wait for: what is too much for it is dropped and counted" do
      test = self()
      output = log(Output.new(:discard, []), fn -> assert_receive :go_on, 60_000 end)

      output =
        Enum.reduce(1..2_500, output, fn number, output ->
          log(output, fn -> send(test, {:logged, number}) end)
        end)

      refute Output.logged?(output)
      # Of those that were dropped: nobody waits for them.
      for _ <- 1..453, do: assert_received(:taken)
      refute_received :taken
      {writer, _} = output.writer

      log =
        ExUnit.CaptureLog.capture_log(fn ->
          send(writer, :go_on)
          await_logged(output)
          assert_received {:logged, 2_047}
          refute_received {:logged, 2_048}
        end)

      # Also when nothing comes after them.
      assert log =~ "records of Python's that were dropped: 453"
      for _ <- 1..2_048, do: assert_received(:taken)
      refute_received :taken
    end

    test "that hangs holds nobody up" do
      output = Output.new(:discard, []) |> log(fn -> assert_receive :go_on, 60_000 end) |> Output.let_go()
      assert_received :taken
      output = Output.log(output, fn -> flunk("it hangs") end, fn -> send(self(), :dropped) end, true)
      assert_received :dropped
      {writer, _} = output.writer
      log = ExUnit.CaptureLog.capture_log(fn -> send(writer, :go_on) && await_logged(output) end)
      assert log =~ "records of Python's that were dropped: 1"
      refute_received :taken
    end

    test "may lose the process that stands for it" do
      output = Output.new(:logger, []) |> log(fn -> Process.sleep(:infinity) end) |> lines(["lost"])
      {writer, _} = output.writer
      Process.exit(writer, :kill)
      assert_receive {:DOWN, _, :process, ^writer, _} = down
      output = Output.message(output, down)
      assert Output.logged?(output)

      assert ExUnit.CaptureLog.capture_log(fn -> output |> lines(["another line"]) |> await_logged() end) =~
               "another line"
    end
  end

  describe "tail/1" do
    test "keeps the last 20 lines, shortened" do
      output = Output.new(:discard, []) |> lines(Enum.map(1..30, &"line #{&1}"))
      assert Output.tail(output) == Enum.map(11..30, &"line #{&1}")
      output = lines(output, [String.duplicate("x", 5_000)])
      assert String.length(List.last(Output.tail(output))) == 2_002
      assert Output.tail(Output.reset(output)) == []
    end

    test "does not depend on the pieces that lines come in" do
      lines = for i <- 1..60, do: String.duplicate("#{rem(i, 10)}", rem(i * 37, 301))
      text = Enum.join(lines, "\n") <> "\n"

      for size <- [1, 2, 7, 100, 1_000, byte_size(text)], start <- [0, 25] do
        text = text |> String.split("\n") |> Enum.drop(start) |> Enum.join("\n")
        output = Enum.reduce(pieces(text, size), Output.new(:discard, []), &Output.data(&2, &1))
        assert Output.tail(output) == Enum.take(lines, -20)
        assert Output.tail(Output.data(output, "last")) == Enum.take(lines, -20)
      end

      assert Output.new(:discard, []) |> Output.data("\n\na\n") |> Output.tail() == ["", "", "a"]
      assert Output.new(:discard, []) |> Output.text("\na") |> Output.tail() == ["", "a"]
    end
  end
end
