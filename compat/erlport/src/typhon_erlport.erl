%% An instance as ErlPort has them: a gen_server that owns one worker process, and ends with it.
%%
%% What is ErlPort's: the functions, what they return and raise, the order of things, what an instance exits with. What is not:
%% calls do not pass through the instance. The caller finds the instance's channel in a table and hands its request to the
%% native library, as a caller of Typhon does; the instance is there for life and death, for messages, and for what the
%% worker asks and prints.
%%
%% Start. An instance is there as soon as its process is: whatever comes before the worker has greeted waits in #work.queue, and
%% callers wait behind it, until it has. When the worker ends before that, so does the instance.
%%
%% Order. What one process sends to an instance (casts, messages, asynchronous calls) lies in the instance's mailbox while its
%% next call is on its way already. So a caller looks whether the instance has something to do, and if so lets it finish that
%% first. What finds no room in the ring waits in #work.queue, and everything later behind it.
%%
%% Nothing of this knows which language the worker speaks, but for command_line/3.
-module(typhon_erlport).

-behaviour(gen_server).

-export([start/3, start/4, stop/1, cast/2]).
-import(typhon_erlport_caller, [limit/1, until/1, left/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([name/0, instance/0]).

-type name() :: {local, atom()} | {global, term()} | {via, module(), term()}.
-type instance() :: pid() | atom() | {atom(), node()} | {global, term()} | {via, module(), term()}.
-type language() :: typhon_erlport_options:language().

-define(NATIVE, 'Elixir.Typhon.Native').
-define(REGISTRY, 'Elixir.Typhon.Registry').
-define(HOST, 'Elixir.Typhon.Worker.Host.OsProcess').

%% Kinds of Native.call/9 and Native.tell/7.
-define(CALL, 0).
-define(ANSWER, 0).
-define(FAILURE, 1).
-define(MESSAGE, 2).
%% What a process that has answered exits with.
-define(ANSWERED, {?MODULE, answered}).
%% Of Native.channel_heard/3.
-define(STATEMENT, 0).
-define(QUESTION, 1).
-define(REFUSAL, 2).

%% How long the worker has, when it is stopped, to deal with what it was given before, in milliseconds.
-define(STOP_GRACE, 1000).
%% How long an exit status may lag behind the end of its process, in milliseconds: a child of the worker's may hold the pipe.
-define(STATUS_GRACE, 100).
-define(SIGKILL, 9).

%% What the instance is about, beside its worker.
-record(work, {
    native :: reference() | undefined,
    %% what waits for room: {message, _}, {call, …}, {answer, …}, {sync, From}, {last, Language}
    queue = queue:new() :: queue:queue(),
    %% the reference of its turn, when the first one waits for room; `starting`: until the worker greets
    turn = starting :: starting | reference() | undefined,
    %% whether the worker has been given anything that nobody waits for
    given = false :: boolean(),
    %% the instance is to end when that is done
    stops = false :: boolean(),
    %% asynchronous calls: their timers
    async = #{} :: #{reference() => reference() | undefined},
    %% processes of its own: {ask, Tag, Timer, Monitor} of one that answers the worker, or `proxy`
    helpers = #{} :: #{pid() => proxy | {ask, non_neg_integer(), reference() | undefined, reference()}},
    %% the process behind the port, as Typhon's own workers have it; its `watch` tells of its end, also when the port does not
    host :: ?HOST:t() | undefined,
    %% the process that reads what the worker prints past its own streams
    printer :: pid() | undefined
}).

%% Six elements, the fourth a port: there are programs that look it up here, and its os_pid (sys:get_state/1).
-record(state, {
    language :: language(),
    options :: typhon_erlport_options:parsed(),
    port :: port(),
    channel :: reference(),
    work = #work{} :: #work{}
}).

%% --- the interface ---

%% A list is options; anything else is a name.
-spec start(start | start_link, language(), typhon_erlport_options:options() | name()) -> {ok, pid()} | {error, term()}.
start(Function, Language, Options) when is_list(Options) -> start(Function, Language, none, Options);
start(Function, Language, Name) -> start(Function, Language, Name, []).

-spec start(start | start_link, language(), none | name(), typhon_erlport_options:options()) ->
    {ok, pid()} | {error, term()}.
start(Function, Language, Name, Options) when is_list(Options) ->
    case typhon_erlport_options:parse(Language, Options) of
        {ok, #{start_timeout := Timeout} = Parsed} ->
            start(Function, Name, {Language, Parsed}, [{timeout, Timeout}], running());
        {error, _} = Error ->
            Error
    end.

start(start, none, Init, Options, ok) -> gen_server:start(?MODULE, Init, Options);
start(start, Name, Init, Options, ok) -> gen_server:start(Name, ?MODULE, Init, Options);
start(start_link, none, Init, Options, ok) -> gen_server:start_link(?MODULE, Init, Options);
start(start_link, Name, Init, Options, ok) -> gen_server:start_link(Name, ?MODULE, Init, Options);
start(_, _, _, _, {error, _} = Error) -> Error.

%% ErlPort has no processes of its own, so that its programs need not have started anything.
running() ->
    case ?REGISTRY:'running?'() of
        true ->
            ok;
        false ->
            case application:ensure_all_started(typhon) of
                {ok, _} -> ok;
                {error, _} = Error -> Error
            end
    end.

-spec stop(instance()) -> ok.
stop(Instance) -> gen_server:cast(Instance, stop).

-spec cast(instance(), term()) -> ok.
cast(Instance, Message) -> gen_server:cast(Instance, {message, Message}).

%% --- the instance: its start ---

-spec init({language(), typhon_erlport_options:parsed()}) -> {ok, #state{}} | {stop, term()}.
init({Language, Options}) ->
    process_flag(trap_exit, true),
    _ = code:ensure_loaded(?NATIVE),
    case ?NATIVE:load_error() of
        nil -> open_channel(Language, Options);
        Text -> {stop, {nif_not_loaded, Text}}
    end.

open_channel(Language, Options) ->
    Spin =
        case erlang:system_info(schedulers_online) of
            1 -> 0;
            _ -> 20
        end,
    %% `raw`: a map is a map here, whatever its keys; and there is no other worker that could have a request in place of this.
    Wanted = #{spin_us => Spin, worker_spin_us => Spin, atoms => create, atom_room => ?NATIVE:atom_room(), raw => true,
               max_result => application:get_env(typhon, max_result, 1073741824)},
    case ?NATIVE:channel_open(self(), Wanted) of
        {ok, Channel, Region} ->
            case typhon_erlport_printer:start() of
                {ok, Printer, Fd} ->
                    open_port(Language, Options, Region, Channel, Printer, Fd);
                {error, Text} ->
                    ?NATIVE:channel_close(Channel, {ended, Text}),
                    {stop, {channel_error, Text}}
            end;
        {error, Text} ->
            {stop, {channel_error, Text}}
    end.

open_port(Language, Options, Region, Channel, Printer, Fd) ->
    try open_port(Language, Options, Region, Fd) of
        Port ->
            Work = #work{printer = Printer},
            started(#state{language = Language, options = Options, port = Port, channel = Channel, work = Work})
    catch
        error:Reason ->
            ?NATIVE:channel_close(Channel, {ended, Reason}),
            typhon_erlport_printer:finish(Printer),
            {stop, {open_port_error, Reason}}
    end.

%% The launcher becomes the program when what would be the port's output goes to the printer's pipe (native/launch).
open_port(Language, #{command := Command, port_options := Given} = Options, Region, Fd) ->
    {Program, OwnArgs} = typhon_erlport_options:command(Command),
    %% It has no packets.
    Kept = [Option || Option <- Given, not is_tuple(Option) orelse element(1, Option) =/= packet],
    Output =
        case Options of
            #{use_stdio := use_stdio} -> "1";
            #{use_stdio := nouse_stdio} -> "4"
        end,
    ?HOST:launch(Region, Fd, Output, [Program | OwnArgs ++ command_line(Language, Options, Region)], Kept).

%% The options that ErlPort's own command line has, and where the channel is.
command_line(Language, Options, #{os_pid := OsPid, fd := Fd}) ->
    #{packet := Packet, use_stdio := UseStdio, compressed := Compressed, buffer_size := BufferSize} = Options,
    Script =
        case Language of
            python -> ["-u", "-m", "erlport.cli"];
            ruby -> ["-e", "require 'erlport/cli'", "--"]
        end,
    Script ++
        [
            "--packet=" ++ integer_to_list(Packet),
            "--" ++ atom_to_list(UseStdio),
            "--compressed=" ++ integer_to_list(Compressed),
            "--buffer_size=" ++ integer_to_list(BufferSize),
            "--typhon=" ++ integer_to_list(OsPid) ++ ":" ++ integer_to_list(Fd)
        ].

%% ErlPort's start returns as soon as there is a process; so does this.
started(#state{port = Port, channel = Channel, options = Options, work = Work} = State) ->
    Host = ?HOST:attach(Port, Channel),
    ?REGISTRY:watch(Channel, ?HOST:os_pid(Host)),
    Native = ?NATIVE:pool_new(1),
    #{call_timeout := CallTimeout, start_timeout := StartTimeout} = Options,
    typhon_erlport_caller:enter(Native, CallTimeout),
    start_timer(StartTimeout, start),
    {ok, State#state{work = Work#work{host = Host, native = Native}}}.

start_timer(infinity, _) -> undefined;
start_timer(Time, What) -> erlang:start_timer(limit(Time), self(), {?MODULE, What}).

%% The worker has greeted. Its word for who it is counts when that is the port's process, or a descendant of it.
greeted(Greeting, #state{channel = Channel, work = #work{native = Native, host = Host} = Work} = State) ->
    case ?HOST:adopt(Host, Greeting) of
        {ok, Adopted} ->
            ?REGISTRY:watch(Channel, greeted),
            ok = ?NATIVE:pool_put(Native, 0, Channel),
            _ = Work#work.stops andalso start_timer(?STOP_GRACE, stop),
            next_noted(State#state{work = Work#work{turn = undefined, host = Adopted}});
        %% It has ended: its port says how.
        {error, no_process} ->
            {noreply, State};
        {error, foreign} ->
            {stop, {foreign_process, maps:get(<<"os_pid">>, Greeting, undefined)}, State}
    end.

%% --- the instance: requests ---

handle_call({call, Module, Function, Args, Options}, From, State) when
    is_atom(Module), is_atom(Function), is_list(Args), is_list(Options)
->
    #state{work = #work{helpers = Helpers} = Work, options = #{call_timeout := Default}} = State,
    Timeout = proplists:get_value(timeout, Options, Default),
    case typhon_erlport_options:timeout(Timeout) of
        {ok, _} ->
            Instance = self(),
            Proxy = spawn_link(fun() ->
                Result =
                    case typhon_erlport_caller:call_here(Instance, {call, Module, Function, Args, Options}) of
                        {down, Reason} -> {error, Reason};
                        elsewhere -> {error, stopped};
                        Other -> Other
                    end,
                gen_server:reply(From, Result)
            end),
            {noreply, State#state{work = Work#work{helpers = Helpers#{Proxy => proxy}}}};
        error ->
            {reply, {error, {invalid_option, {timeout, Timeout}}}, State}
    end;
handle_call(sync, From, State) ->
    push({sync, From}, State);
handle_call(Request, From, State) ->
    {reply, {unknown_call, ?MODULE, Request, From}, State}.

%% What the worker was given before comes first, as it does in a pipe.
handle_cast(stop, #state{work = #work{stops = true}} = State) ->
    {noreply, State};
handle_cast(stop, #state{work = Work} = State) ->
    case has_work(Work) of
        true ->
            typhon_erlport_caller:leave(),
            %% One that starts has this time from when it is ready.
            _ = Work#work.turn =/= starting andalso start_timer(?STOP_GRACE, stop),
            push({last, State#state.language}, State#state{work = Work#work{stops = true}});
        false ->
            {stop, normal, State}
    end;
handle_cast({message, Message}, State) ->
    push({message, Message}, State);
handle_cast({call, Module, Function, Args, Options}, State) when
    is_atom(Module), is_atom(Function), is_list(Args), is_list(Options)
->
    #state{options = #{call_timeout := Default}} = State,
    Timeout = proplists:get_value(timeout, Options, Default),
    case typhon_erlport_options:timeout(Timeout) of
        {ok, _} -> push({call, Module, Function, Args, until(Timeout)}, State);
        error -> {stop, {error, {invalid_option, {timeout, Timeout}}}, State}
    end;
handle_cast(_, State) ->
    {noreply, State}.

handle_info({typhon, Channel, Event}, #state{channel = Channel} = State) ->
    event(Event, State);
handle_info({Ref, room}, #state{work = #work{turn = Ref} = Work} = State) when is_reference(Ref) ->
    next_noted(State#state{work = Work#work{turn = undefined}});
handle_info({Ref, Reply}, #state{work = #work{async = Async}} = State) when is_map_key(Ref, Async) ->
    answered(Ref, Reply, State);
handle_info({timeout, Timer, {?MODULE, async, Ref}}, #state{work = #work{async = Async}} = State) ->
    case Async of
        #{Ref := Timer} -> {stop, timeout, State};
        _ -> {noreply, State}
    end;
handle_info({timeout, Timer, {?MODULE, ask, Pid}}, #state{work = #work{helpers = Helpers}} = State) ->
    case Helpers of
        %% Its end is what the worker is told.
        #{Pid := {ask, _, Timer, _}} -> exit(Pid, kill);
        _ -> ok
    end,
    {noreply, State};
handle_info({Port, {data, Data}}, #state{port = Port} = State) ->
    %% The launcher's, when there is no program to become.
    typhon_erlport_printer:print(Data),
    {noreply, State};
handle_info({Port, {exit_status, Status}}, #state{port = Port} = State) ->
    {stop, {port_closed, {code, Status}}, State};
handle_info({Port, closed}, #state{port = Port} = State) ->
    {stop, port_closed, State};
handle_info({'EXIT', Port, Reason}, #state{port = Port} = State) ->
    {stop, {port_closed, Reason}, State};
handle_info({'EXIT', Pid, Reason}, #state{work = #work{helpers = Helpers}} = State) when is_map_key(Pid, Helpers) ->
    helped(Pid, Reason, State);
handle_info({'DOWN', _, process, Pid, Reason}, #state{work = #work{helpers = Helpers}} = State) when
    is_map_key(Pid, Helpers)
->
    helped(Pid, Reason, State);
handle_info({'EXIT', Printer, Reason}, #state{work = #work{printer = Printer}} = State) ->
    {stop, {printer, Reason}, State};
%% The worker has ended. Its status comes by the port, unless something that it started holds its stdout.
handle_info({select, Watch, _, _}, #state{work = #work{host = #{watch := Watch}}} = State) when is_reference(Watch) ->
    start_timer(?STATUS_GRACE, status),
    {noreply, State};
handle_info({timeout, _, {?MODULE, start}}, #state{work = #work{turn = starting}} = State) ->
    {stop, start_timeout, State};
handle_info({timeout, _, {?MODULE, start}}, State) ->
    {noreply, State};
handle_info({timeout, _, {?MODULE, stop}}, State) ->
    {stop, normal, State};
handle_info({timeout, _, {?MODULE, status}}, State) ->
    {stop, {port_closed, normal}, State};
handle_info({typhon, _, _}, State) ->
    {noreply, State};
handle_info(Message, State) ->
    push({message, Message}, State).

terminate(Reason, State) ->
    close(
        case Reason of
            normal -> stopped;
            _ -> Reason
        end,
        State
    ).

%% Whoever waits gets the reason. The worker ends when its port does; Typhon.Registry, which watches this process, sees to it
%% that one which cannot is killed.
close(Reason, #state{channel = Channel, work = #work{host = Host, printer = Printer}}) ->
    typhon_erlport_caller:leave(),
    typhon_erlport_printer:finish(Printer),
    ?NATIVE:channel_close(Channel, {ended, Reason}),
    _ = ?HOST:close(Host),
    ok.

%% Whether there is anything, given to the worker or not, that nobody waits for.
has_work(#work{given = true}) ->
    true;
has_work(#work{queue = Queue}) ->
    lists:any(
        fun
            ({sync, _}) -> false;
            (_) -> true
        end,
        queue:to_list(Queue)
    ).

%% --- what goes to the worker ---

push(Item, #state{work = #work{turn = undefined}} = State) ->
    offer(Item, State);
push(Item, #state{work = #work{queue = Queue} = Work} = State) ->
    {noreply, State#state{work = Work#work{queue = queue:in(Item, Queue)}}}.

next(#state{work = #work{queue = Queue} = Work} = State) ->
    case queue:out(Queue) of
        {{value, Item}, Rest} -> offer(Item, State#state{work = Work#work{queue = Rest}});
        {empty, _} -> {noreply, State}
    end.

%% The queue goes on, and is empty then or waits again.
next_noted(State) ->
    case next(State) of
        {noreply, #state{work = #work{turn = undefined}}} = Result ->
            typhon_erlport_caller:note(idle),
            Result;
        Result ->
            Result
    end.

offer({sync, From}, State) ->
    gen_server:reply(From, ok),
    next(State);
offer({last, python}, State) ->
    offer({call, builtins, id, [0], infinity}, State);
%% An error will do: it comes when all that was before it is over.
offer({last, _}, State) ->
    offer({call, '', nothing, [], infinity}, State);
offer({call, Module, Function, Args, Until} = Item, #state{work = #work{native = Native} = Work0} = State0) ->
    Ref = make_ref(),
    Work = Work0#work{given = true},
    State = State0#state{work = Work},
    %% Its limit is kept here: what is late ends the instance, and does not take the request back.
    case ?NATIVE:call(Native, Ref, ?CALL, Module, Function, Args, #{}, infinity, 0) of
        {wait, _, _, _} -> sent(Ref, Until, State);
        {room, _} -> wait(Ref, Item, State);
        Reply -> answered(Ref, Reply, State#state{work = Work#work{async = (Work#work.async)#{Ref => undefined}}})
    end;
offer({message, Message} = Item, #state{work = Work} = State) ->
    tell(?MESSAGE, 0, Message, Item, State#state{work = Work#work{given = true}});
offer({answer, Kind, Tag, Term} = Item, State) ->
    tell(Kind, Tag, Term, Item, State).

sent(Ref, Until, #state{work = #work{async = Async} = Work} = State) ->
    Timer =
        case left(Until) of
            infinity -> undefined;
            Left -> erlang:start_timer(limit(Left), self(), {?MODULE, async, Ref})
        end,
    next(State#state{work = Work#work{async = Async#{Ref => Timer}}}).

wait(Ref, Item, #state{work = #work{queue = Queue} = Work} = State) ->
    typhon_erlport_caller:note(waits),
    {noreply, State#state{work = Work#work{turn = Ref, queue = queue:in_r(Item, Queue)}}}.

tell(Kind, Tag, Term, Item, #state{channel = Channel} = State) ->
    Ref = make_ref(),
    case ?NATIVE:tell(nil, Channel, 0, Ref, Kind, Tag, Term) of
        ok when Kind =:= ?MESSAGE ->
            next(State);
        ok ->
            heard(Channel, ?QUESTION, 1),
            next(State);
        {room, _} ->
            wait(Ref, Item, State);
        {cannot_encode, Path, Text} when Kind =:= ?MESSAGE ->
            logger:warning("a message to an ErlPort instance was dropped: ~ts (~ts)", [Text, Path]),
            next(State);
        {cannot_encode, Path, Text} ->
            tell(?FAILURE, Tag, {erlang, error, {cannot_encode, Path, Text}, []}, Item, State);
        %% The worker has ended: its port is about to say so.
        {down, _} ->
            next(State)
    end.

%% An asynchronous call has come to its end.
answered(Ref, Reply, #state{work = #work{async = Async} = Work} = State) ->
    {Timer, Rest} = maps:take(Ref, Async),
    stop_timer(Timer),
    Ended = State#state{work = Work#work{async = Rest}},
    case outcome(Reply) of
        _ when Work#work.stops, map_size(Rest) =:= 0 -> {stop, normal, Ended};
        {error, Error} when not Work#work.stops -> {stop, {async_call_error, Error}, Ended};
        _ -> next_if_free(Ended)
    end.

next_if_free(#state{work = #work{turn = undefined}} = State) -> next(State);
next_if_free(State) -> {noreply, State}.

outcome({segment, Handle}) -> outcome(?NATIVE:read(Handle));
outcome({cannot_encode, Path, Text}) -> {error, {cannot_encode, Path, Text}};
outcome(Reply) -> Reply.

stop_timer(undefined) -> ok;
stop_timer(Timer) -> erlang:cancel_timer(Timer).

%% --- what comes from the worker ---

%% Each question and each message is counted until it has been dealt with, for the native library, which bounds what comes here.
event({_Id, {ask, 0, Reply}}, #state{channel = Channel} = State) ->
    Result = ask(0, Reply, State),
    heard(Channel, ?STATEMENT, 1),
    Result;
event({0, {ask, Tag, Reply}}, State) ->
    ask(Tag, Reply, State);
%% In the name of a call that was given up, which none of ErlPort's workers asks in.
event({_Id, {ask, _Tag, _}}, #state{channel = Channel} = State) ->
    heard(Channel, ?REFUSAL, 1),
    {noreply, State};
event({send, Reply}, #state{channel = Channel} = State) ->
    heard(Channel, ?STATEMENT, 1),
    send(Reply, State);
%% To itself: whatever that looks like, it is for its message handler.
event({post, Message}, State) ->
    push({message, Message}, State);
%% The receivers' mailboxes are their own, as with any process that sends.
event({sent, _Pid, Count}, #state{channel = Channel} = State) ->
    heard(Channel, ?STATEMENT, Count),
    {noreply, State};
event({ready, Greeting}, #state{work = #work{turn = starting}} = State) ->
    greeted(Greeting, State);
event({What, Text}, #state{channel = Channel} = State) when What =:= bad_frame; What =:= flood ->
    ?NATIVE:kill(Channel, ?SIGKILL),
    {stop, {invalid_protocol_data, Text}, State};
%% A call that was given up goes on in the worker, as ErlPort has it.
event(_, State) ->
    {noreply, State}.

heard(Channel, Kind, Count) -> ?NATIVE:channel_heard(Channel, Kind, Count).

ask(Tag, Reply, State) ->
    case outcome(Reply) of
        {ok, Question} -> asked(Question, Tag, State);
        {error, Reason} when Tag =/= 0 -> push({answer, ?FAILURE, Tag, {erlang, error, Reason, []}}, State);
        {error, Reason} -> {stop, {invalid_protocol_data, Reason}, State}
    end.

send(Reply, State) ->
    case outcome(Reply) of
        {ok, {Pid, Message}} -> deliver(Pid, Message, State);
        {error, Reason} -> {stop, {invalid_protocol_data, Reason}, State}
    end.

%% In a process of its own, which others may have to wait for: the worker runs what they ask of it meanwhile.
asked({call, Module, Function, Args}, Tag, State) when is_atom(Module), is_atom(Function), is_list(Args) ->
    #state{language = Language, channel = Channel, options = #{call_timeout := Timeout}, work = Work} = State,
    #work{native = Native, helpers = Helpers} = Work,
    %% What it runs may end it as if all was well, or take its link away.
    {Pid, Monitor} = spawn_opt(
        fun() ->
            %% Python's stack is short: what else comes may have to wait.
            _ = Language =:= python andalso typhon_erlport_caller:answers(Native, Channel, Tag),
            answer(Channel, Tag, apply_function(Module, Function, Args)),
            exit(?ANSWERED)
        end,
        [link, monitor]
    ),
    Timer =
        case Timeout of
            infinity -> undefined;
            _ -> erlang:start_timer(limit(Timeout), self(), {?MODULE, ask, Pid})
        end,
    {noreply, State#state{work = Work#work{helpers = Helpers#{Pid => {ask, Tag, Timer, Monitor}}}}};
asked(self, Tag, State) ->
    push({answer, ?ANSWER, Tag, self()}, State);
asked(make_ref, Tag, State) ->
    push({answer, ?ANSWER, Tag, make_ref()}, State);
asked({print, Text}, 0, State) when is_binary(Text) ->
    typhon_erlport_printer:print(Text),
    {noreply, State};
%% All that came before has been dealt with.
asked(sync, Tag, State) ->
    push({answer, ?ANSWER, Tag, ok}, State);
asked({send, Name, Message}, 0, State) ->
    deliver(Name, Message, State);
asked({message_handler_error, Error}, 0, State) ->
    {stop, {message_handler_error, Error}, State};
asked(_, 0, State) ->
    {noreply, State};
asked(Question, Tag, State) ->
    push({answer, ?FAILURE, Tag, {erlang, error, {unknown_question, Question}, []}}, State).

deliver(Destination, Message, State) ->
    case is_self(Destination) of
        true -> push({message, Message}, State);
        false -> send(Destination, Message, State)
    end.

is_self(Pid) when is_pid(Pid) -> Pid =:= self();
is_self(Name) when is_atom(Name) -> whereis(Name) =:= self();
is_self({Name, Node}) when is_atom(Name), Node =:= node() -> whereis(Name) =:= self();
is_self(_) -> false.

send(Destination, Message, State) ->
    try
        Destination ! Message,
        {noreply, State}
    catch
        Class:Reason -> {stop, {send_error, {Class, Reason}}, State}
    end.

%% An error of the other side's that comes through here goes on as it is.
apply_function(Module, Function, Args) ->
    try
        {?ANSWER, apply(Module, Function, Args)}
    catch
        error:{Language, Type, _, Frames} = Error when is_atom(Language), is_atom(Type), is_list(Frames) ->
            {?FAILURE, Error};
        Class:Reason:Stack ->
            {?FAILURE, {erlang, Class, Reason, Stack}}
    end.

answer(Channel, Tag, {Kind, Term}) ->
    Ref = make_ref(),
    case ?NATIVE:tell(nil, Channel, 0, Ref, Kind, Tag, Term) of
        {room, _} ->
            receive
                {Ref, room} -> answer(Channel, Tag, {Kind, Term})
            end;
        {cannot_encode, Path, Text} ->
            answer(Channel, Tag, {?FAILURE, {erlang, error, {cannot_encode, Path, Text}, []}});
        _ ->
            ok
    end.

%% One of the instance's own processes has ended. One that was to answer and has not left that to this one.
helped(Pid, Reason, #state{work = #work{helpers = Helpers} = Work} = State) ->
    {Helper, Rest} = maps:take(Pid, Helpers),
    Left = State#state{work = Work#work{helpers = Rest}},
    case Helper of
        {ask, Tag, Timer, Monitor} ->
            forget(Pid, Monitor),
            stop_timer(Timer),
            case Reason of
                ?ANSWERED ->
                    heard(Left#state.channel, ?QUESTION, 1),
                    {noreply, Left};
                _ ->
                    push({answer, ?FAILURE, Tag, {erlang, exit, Reason, []}}, Left)
            end;
        proxy ->
            {noreply, Left}
    end.

%% Both its link and its monitor tell of its end.
forget(Pid, Monitor) ->
    demonitor(Monitor, [flush]),
    unlink(Pid),
    receive
        {'EXIT', Pid, _} -> ok
    after 0 -> ok
    end.
