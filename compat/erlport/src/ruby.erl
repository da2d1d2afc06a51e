%% @doc ErlPort's interface to Ruby, on Typhon's native core: programs that were written for ErlPort run with this module as
%% they are. docs/from-erlport.md says what is different, and how to move on to the module Typhon. What these functions do
%% stands in typhon_erlport, for every language.
-module(ruby).

-export([start/0, start/1, start/2, start_link/0, start_link/1, start_link/2]).
-export([stop/1, call/4, call/5, cast/2]).

-type name() :: typhon_erlport:name().
-type instance() :: typhon_erlport:instance().
-type options() :: ruby_options:options().

%% @equiv start([])
-spec start() -> {ok, pid()} | {error, term()}.
start() -> start([]).

%% @doc Starts a Ruby. A list is its options; anything else is its name, as gen_server takes it.
-spec start(options() | name()) -> {ok, pid()} | {error, term()}.
start(OptionsOrName) -> typhon_erlport:start(start, ruby, OptionsOrName).

-spec start(name(), options()) -> {ok, pid()} | {error, term()}.
start(Name, Options) -> typhon_erlport:start(start, ruby, Name, Options).

%% @equiv start_link([])
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> start_link([]).

%% @doc The same, linked to the caller.
-spec start_link(options() | name()) -> {ok, pid()} | {error, term()}.
start_link(OptionsOrName) -> typhon_erlport:start(start_link, ruby, OptionsOrName).

-spec start_link(name(), options()) -> {ok, pid()} | {error, term()}.
start_link(Name, Options) -> typhon_erlport:start(start_link, ruby, Name, Options).

%% @doc Tells an instance to end. It does not wait for that.
-spec stop(instance()) -> ok.
stop(Instance) -> typhon_erlport:stop(Instance).

%% @equiv call(Instance, Module, Function, Args, [])
-spec call(instance(), module(), atom(), list()) -> term().
call(Instance, Module, Function, Args) -> call(Instance, Module, Function, Args, []).

%% @doc Calls a method of Ruby. What it raises is an error {ruby, Class, Message, Frames} in the caller. With the option
%% async the caller does not wait: ok is returned, and an error ends the instance.
-spec call(instance(), module(), atom(), list(), [async | {timeout, timeout()}]) -> term().
call(Instance, Module, Function, Args, Options) ->
    typhon_erlport_caller:call(Instance, Module, Function, Args, Options).

%% @doc Sends a message to Ruby's message handler, as does sending one to the instance's pid.
-spec cast(instance(), term()) -> ok.
cast(Instance, Message) -> typhon_erlport:cast(Instance, Message).
