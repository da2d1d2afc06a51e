defmodule ClassifierTest do
  use ExUnit.Case

  import ExUnit.CaptureLog

  alias Classifier.Model

  @tickets [
    {"you charged my card twice", "billing"},
    {"where is the invoice of last month", "billing"},
    {"the app crashes after the update", "fault"},
    {"an error appears on the page", "fault"},
    {"thanks, great help", "praise"}
  ]

  test "what tickets are about" do
    {texts, labels} = Enum.unzip(@tickets)
    assert Classifier.classify(texts) == {:ok, labels}
  end

  test "the model is an object of Python's" do
    assert %Typhon.Object{type: "sklearn.pipeline.Pipeline"} = Model.current()

    assert Enum.sort(Typhon.Array.to_list(Typhon.get!(Model.current(), :classes_))) ==
             ~w(billing fault praise)
  end

  test "many processes ask the same model" do
    model = Model.current()
    assert ask_at_once(200) == expected(200)
    assert Model.current() == model
  end

  test "a Python that ends while many ask: one trains anew, and all have their answers" do
    lost = Model.current()

    capture_log(fn ->
      asked = Task.async(fn -> ask_at_once(200) end)
      assert {:error, %Typhon.WorkerError{}} = Typhon.call(Classifier.Python, :os, :_exit, [1])
      assert Task.await(asked, 120_000) == expected(200)
      # If all of them had their answers before, this one finds the model gone.
      assert Classifier.classify(["thanks"]) == {:ok, ["praise"]}
    end)

    assert Model.current() != lost
    assert {:error, %Typhon.WorkerError{}} = Typhon.call(Classifier.Python, lost, :predict, [["thanks"]])
  end

  test "those who come late get the model that was trained for the first" do
    lost = Model.current()

    capture_log(fn ->
      {:error, %Typhon.WorkerError{}} = Typhon.call(Classifier.Python, :os, :_exit, [1])

      trained =
        1..20
        |> Enum.map(fn _ -> Task.async(fn -> Model.instead_of(lost) end) end)
        |> Task.await_many(120_000)

      assert [{:ok, model}] = Enum.uniq(trained)
      assert model == Model.current()
    end)
  end

  test "what is no text is Python's error, and the model stays" do
    model = Model.current()
    assert {:error, %Typhon.PythonError{type: "AttributeError"}} = Classifier.classify([nil])
    assert Model.current() == model
  end

  defp ask_at_once(count) do
    1..count
    |> Enum.map(fn n ->
      {text, _} = ticket(n)
      Task.async(fn -> Classifier.classify([text]) end)
    end)
    |> Task.await_many(120_000)
  end

  defp expected(count), do: for(n <- 1..count, {_, label} = ticket(n), do: {:ok, [label]})

  defp ticket(n), do: Enum.at(@tickets, rem(n, length(@tickets)))
end
