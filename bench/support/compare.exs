defmodule Bench.Compare do
  @moduledoc """
  Runs a floor and Typhon in turns, several times, and makes rows of their medians.

  A row says which metric of a run it shows, how the two are compared, and what the goal is:

    * `how: :ratio`  Typhon / floor
    * `how: :alone`  Typhon's value by itself; the floor's is shown for information
    * `how: :added`  Typhon - floor
  """

  alias Bench.Report

  @doc "`floor` and `typhon` each do one run and return a map of metrics. `typhon` is nil when only floors are wanted."
  def rows(floor, typhon, runs, specifications) do
    # Which one goes first alternates: neither always finds the caches and cores as the other left them.
    results =
      for run <- 1..runs do
        if rem(run, 2) == 1 do
          floor_metrics = floor.()
          {floor_metrics, typhon && typhon.()}
        else
          typhon_metrics = typhon && typhon.()
          {floor.(), typhon_metrics}
        end
      end

    for specification <- specifications do
      row = row(specification, results)
      Report.line(row)
      row
    end
  end

  @doc "A row out of figures that other rows gave."
  def derived(specification, floor_runs, typhon_runs) do
    row = finish(Map.new(specification), floor_runs, typhon_runs)
    Report.line(row)
    row
  end

  defp row(specification, results) do
    specification = Map.new(specification)
    {floor, typhon} = Enum.unzip(results)

    pick = fn metrics ->
      if is_function(specification.metric),
        do: specification.metric.(metrics),
        else: metrics[specification.metric]
    end

    finish(specification, Enum.map(floor, pick), if(hd(typhon), do: Enum.map(typhon, pick)))
  end

  defp finish(specification, floor_runs, typhon_runs) do
    how = Map.get(specification, :how, :ratio)
    goal = Map.get(specification, :goal)
    floor = median(floor_runs)
    typhon = typhon_runs && median(typhon_runs)
    compared = typhon && compare(how, floor, typhon)

    %{
      name: specification.name,
      unit: specification.unit,
      how: how,
      goal: goal,
      floor: floor,
      floor_runs: floor_runs,
      typhon: typhon,
      typhon_runs: typhon_runs,
      compared: compared,
      met: if(goal && compared, do: met?(goal, compared))
    }
  end

  defp compare(:ratio, floor, typhon), do: typhon / max(floor, 1.0e-9)
  defp compare(:alone, _floor, typhon), do: typhon
  defp compare(:added, floor, typhon), do: typhon - floor

  defp met?({:at_most, bound}, value), do: value <= bound
  defp met?({:at_least, bound}, value), do: value >= bound

  defp median(values) do
    sorted = Enum.sort(values)
    Enum.at(sorted, div(length(sorted), 2))
  end
end
