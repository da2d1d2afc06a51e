%% @doc What python and ruby have in common, under the name that ErlPort gives it.
-module(erlport).

-export([stop/1, call/5, cast/2]).

-spec stop(typhon_erlport:instance()) -> ok.
stop(Instance) -> typhon_erlport:stop(Instance).

-spec call(typhon_erlport:instance(), module(), atom(), list(), [async | {timeout, timeout()}]) -> term().
call(Instance, Module, Function, Args, Options) ->
    typhon_erlport_caller:call(Instance, Module, Function, Args, Options).

-spec cast(typhon_erlport:instance(), term()) -> ok.
cast(Instance, Message) -> typhon_erlport:cast(Instance, Message).
