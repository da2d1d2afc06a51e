defimpl Inspect,
  for: [
    Typhon.DecodeError,
    Typhon.EncodeError,
    Typhon.OverloadError,
    Typhon.PoolError,
    Typhon.PythonError,
    Typhon.RubyError,
    Typhon.StartError,
    Typhon.Test.UnexpectedCallError,
    Typhon.Test.VerificationError,
    Typhon.TimeoutError,
    Typhon.WorkerError
  ] do
  # A supervisor logs the error of a child that does not start as it is inspected, and so does a match that fails, such as
  # `{:ok, x} = Typhon.call(…)`. There the sentence says more than the fields; `inspect(error, structs: false)` has those.

  import Inspect.Algebra, only: [concat: 1]

  def inspect(error, options) do
    name = Kernel.inspect(error.__struct__)
    # Exception.message/1 would inspect an error whose fields make no sentence.
    text = error |> error.__struct__.message() |> Typhon.Text.visible(~c"\n\t")
    concat(["#", name, "<", reason(error), shortened(text, options.printable_limit), ">"])
  rescue
    _ -> Inspect.Any.inspect(error, options)
  end

  defp reason(%{reason: reason}) when is_atom(reason) and reason != nil, do: "#{Kernel.inspect(reason)} - "
  defp reason(_error), do: ""

  # As long as a string may be that is inspected.
  defp shortened(text, limit) when is_integer(limit) and byte_size(text) > limit,
    do: String.slice(text, 0, limit) <> " …"

  defp shortened(text, _limit), do: text
end
