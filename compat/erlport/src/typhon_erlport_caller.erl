%% Calls of an instance, in the process that makes them: they do not pass through the instance, whose channel stands in a table.
-module(typhon_erlport_caller).

-export([call/5, call_here/2]).
-export([enter/2, note/1, leave/0]).
-export([answers/3]).
-export([limit/1, until/1, left/1]).

-define(NATIVE, 'Elixir.Typhon.Native').
%% {Pid, Native pool, call_timeout, idle | waits} of each instance on this node; `waits`: something waits in it for room, or the
%% worker has not greeted. The table is Typhon.Registry's, which takes the row out when the process has ended. A table and not
%% persistent terms, as programs start and stop instances by the dozen: to erase one of those costs the VM a look at every process.
-define(TABLE, typhon_owners).
%% A kind of Native.call/9.
-define(CALL, 0).
%% What `receive … after` accepts.
-define(LONGEST, 16#FFFFFFFF).

-spec call(typhon_erlport:instance(), module(), atom(), list(), [async | {timeout, timeout()}]) -> term().
call(Instance, Module, Function, Args, Options) when
    is_atom(Module), is_atom(Function), is_list(Args), is_list(Options)
->
    ok = check(Options),
    case proplists:get_bool(async, Options) of
        true -> gen_server:cast(Instance, {call, Module, Function, Args, Options});
        false -> call_sync(Instance, Module, Function, Args, Options)
    end.

check([]) ->
    ok;
check([async | Rest]) ->
    check(Rest);
check([{timeout, Timeout} = Option | Rest]) ->
    case typhon_erlport_options:timeout(Timeout) of
        {ok, _} -> check(Rest);
        error -> erlang:error({erlport_option_error, Option})
    end;
check([Option | _]) ->
    erlang:error({erlport_invalid_option, Option}).

call_sync(Instance, Module, Function, Args, Options) ->
    Request = {call, Module, Function, Args, Options},
    Answer =
        case call_here(pid(Instance), Request) of
            %% gen_server says what is to be said.
            elsewhere -> gen_server:call(Instance, Request, infinity);
            Other -> Other
        end,
    case Answer of
        {ok, Result} -> Result;
        {error, Reason} -> erlang:error(Reason);
        {down, Reason} -> exit({Reason, {gen_server, call, [Instance, Request, infinity]}})
    end.

%% `elsewhere`: it is on another node, or nowhere.
-spec call_here(term(), tuple()) -> {ok, term()} | {error, term()} | {down, term()} | elsewhere.
call_here(Pid, {call, Module, Function, Args, Options}) ->
    case row(Pid) of
        {_, Native, Default, Turn} ->
            Timeout = proplists:get_value(timeout, Options, Default),
            case in_turn(Turn, Pid, Timeout) of
                {go, Left} -> ended(request(Native, Module, Function, Args, Left), noproc);
                %% It has ended meanwhile. If it had a channel, that knows why.
                {ended, Why} -> ended(request(Native, Module, Function, Args, infinity), Why);
                timeout -> {error, timeout}
            end;
        none ->
            elsewhere
    end.

%% Of one that has ended what ErlPort says of it. One that was killed could not say why.
ended({down, {ended, Why}}, _) -> {error, Why};
ended({down, owner_down}, _) -> {down, killed};
ended({down, #{'__struct__' := _}}, _) -> {down, killed};
ended({down, _}, Why) when Why =:= noproc; Why =:= killed -> {down, Why};
ended({down, _}, normal) -> {error, stopped};
ended({down, _}, Why) -> {error, Why};
ended(Answer, _) -> Answer.

pid(Pid) when is_pid(Pid) -> Pid;
pid(Name) when is_atom(Name) -> whereis(Name);
pid({global, Name}) -> global:whereis_name(Name);
pid({via, Module, Name}) -> Module:whereis_name(Name);
pid({Name, Node}) when Node =:= node(), is_atom(Name) -> whereis(Name);
pid(_) -> undefined.

%% The row of an instance. What this process has sent to the instance before is on its way to the worker then: first whether
%% it lies in the mailbox, then whether it has been read and waits for room.
row(Pid) when is_pid(Pid), node(Pid) =:= node() ->
    case process_info(Pid, message_queue_len) of
        {message_queue_len, 0} -> lookup(Pid);
        undefined -> none;
        _ -> waits(lookup(Pid))
    end;
row(_) ->
    none.

waits(none) -> none;
waits(Row) -> setelement(4, Row, waits).

in_turn(idle, _, Timeout) ->
    {go, Timeout};
in_turn(waits, Pid, Timeout) ->
    Until = until(Timeout),
    try
        ok = gen_server:call(Pid, sync, limit(Timeout)),
        {go, left(Until)}
    catch
        exit:{timeout, _} -> timeout;
        exit:{Why, _} -> {ended, Why}
    end.

lookup(Pid) ->
    try ets:lookup(?TABLE, Pid) of
        [Row] -> Row;
        [] -> none
    catch
        %% The application is not running.
        error:badarg -> none
    end.

-spec request(reference(), module(), atom(), list(), timeout()) ->
    {ok, term()} | {error, term()} | {down, term()}.
request(Native, Module, Function, Args, Timeout) -> request(Native, Module, Function, Args, Timeout, flags(Native)).

request(Native, Module, Function, Args, Timeout, Flags) ->
    Ref = make_ref(),
    case ?NATIVE:call(Native, Ref, ?CALL, Module, Function, Args, #{}, Timeout, Flags) of
        {ok, _} = Ok ->
            Ok;
        {wait, Where, Id, Left} ->
            receive
                {Ref, {ok, _} = Ok} -> Ok;
                {Ref, Reply} -> reply(Reply, Native, Module, Function, Args)
            after limit(Left) -> give_up(Native, Where, Id, Ref, Module, Function, Args)
            end;
        {room, Channel} ->
            Until = until(Timeout),
            case 'Elixir.Typhon.Room':wait(Channel, Ref, Timeout) of
                room -> request(Native, Module, Function, Args, left(Until));
                timeout -> {error, timeout}
            end;
        %% Asked as by anybody, its channel says why.
        {down, gone} when Flags =/= 0 ->
            request(Native, Module, Function, Args, Timeout, 0);
        Reply ->
            reply(Reply, Native, Module, Function, Args)
    end.

%% In the dictionary of a process that answers what a worker has asked.
-define(ANSWERS, {?MODULE, answers}).

%% The calling process is about to answer what the worker has asked by this tag: what it calls there meanwhile does not wait.
-spec answers(reference(), reference(), non_neg_integer()) -> ok.
answers(Native, Channel, Tag) ->
    _ = put(?ANSWERS, {Native, {0, Channel, Tag}}),
    ok.

flags(Native) ->
    case get(?ANSWERS) of
        {Native, Flags} -> Flags;
        _ -> 0
    end.

reply({ok, _} = Ok, _, _, _, _) ->
    Ok;
reply({error, expired}, _, _, _, _) ->
    {error, timeout};
%% The worker was told to end, and has told so before its channel was closed: that knows why. Whatever else becomes of a request for
%% nothing is no answer.
reply({error, cancelled}, Native, _, _, _) ->
    case request(Native, '', nothing, [], infinity) of
        {down, _} = Down -> Down;
        _ -> {error, cancelled}
    end;
reply({error, Reason}, _, _, _, _) ->
    {error, Reason};
reply({segment, Handle}, Native, Module, Function, Args) ->
    reply(?NATIVE:read(Handle), Native, Module, Function, Args);
reply({down, _} = Down, _, _, _, _) ->
    Down;
%% The worker ended before it took the request, and there is no other one: asked again, its channel says why.
reply({not_started, Left}, Native, Module, Function, Args) ->
    request(Native, Module, Function, Args, Left);
reply({cannot_encode, Path, Text}, _, _, _, _) ->
    {error, {cannot_encode, Path, Text}};
reply(no_worker, _, _, _, _) ->
    {down, noproc}.

%% The answer may have come at the very moment the time ran out: then it is there, so the caller gets it.
give_up(Native, Where, Id, Ref, Module, Function, Args) ->
    case ?NATIVE:cancel(Native, Where, Id) of
        cancelled ->
            {error, timeout};
        {delivered, Reply} ->
            reply(Reply, Native, Module, Function, Args);
        delivered ->
            case 'Elixir.Typhon.Conversation':delivered(Ref) of
                {ok, {not_started, _}} -> {error, timeout};
                {ok, Answer} -> reply(Answer, Native, Module, Function, Args);
                none -> {error, timeout}
            end
    end.

%% --- the table ---

%% The calling process is an instance from here on; its worker has not greeted.
-spec enter(reference(), timeout()) -> true.
enter(Native, CallTimeout) -> ets:insert(?TABLE, {self(), Native, CallTimeout, waits}).

%% Whether callers have to let the calling instance go first.
-spec note(idle | waits) -> boolean().
note(Waits) -> ets:update_element(?TABLE, self(), {4, Waits}).

-spec leave() -> true.
leave() -> ets:delete(?TABLE, self()).

%% --- times ---

-spec limit(timeout()) -> timeout().
limit(infinity) -> infinity;
limit(Timeout) -> min(Timeout, ?LONGEST).

-spec until(timeout()) -> integer() | infinity.
until(infinity) -> infinity;
until(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

-spec left(integer() | infinity) -> timeout().
left(infinity) -> infinity;
left(Until) -> max(0, Until - erlang:monotonic_time(millisecond)).
