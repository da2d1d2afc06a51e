%% What reaches a worker's stdout past its own streams, of C code and of what it starts, comes by a pipe. A process of its own reads
%% it, piece by piece as its device takes them: while that is slow whoever prints waits, and the instance does not.
-module(typhon_erlport_printer).

-export([start/0, finish/1, print/1]).

-define(NATIVE, 'Elixir.Typhon.Native').
%% How long what has been printed at the end may take its device, in milliseconds, and how much of it there may be.
-define(PRINT_GRACE, 1000).
-define(LAST_BYTES, 1048576).

-spec start() -> {ok, pid(), integer()} | {error, term()}.
start() ->
    Instance = self(),
    Printer = spawn_link(fun() ->
        case ?NATIVE:output_open() of
            {ok, Pipe, Fd} ->
                Instance ! {self(), {ok, self(), Fd}},
                read(Pipe, <<>>);
            {error, _} = Error ->
                Instance ! {self(), Error},
                unlink(Instance)
        end
    end),
    receive
        {Printer, Result} -> Result;
        {'EXIT', Printer, Reason} -> {error, Reason}
    end.

read(Pipe, Before) ->
    receive
        {finish, Instance} -> finish(Pipe, Before, ?LAST_BYTES, Instance)
    after 0 ->
        case ?NATIVE:descriptor_read(Pipe) of
            {ok, Data} ->
                read(Pipe, printed(Data, Before));
            _ ->
                receive
                    {select, Pipe, _, _} -> read(Pipe, Before);
                    {finish, Instance} -> finish(Pipe, Before, ?LAST_BYTES, Instance)
                end
        end
    end.

%% What is there at the end. There may be somebody who prints on and on.
finish(Pipe, Before, Left, Instance) ->
    case Left > 0 andalso ?NATIVE:descriptor_read(Pipe) of
        {ok, Data} ->
            finish(Pipe, printed(Data, Before), Left - byte_size(Data), Instance);
        _ ->
            unlink(Instance),
            ok
    end.

%% What is there at the end is printed first.
-spec finish(pid()) -> ok.
finish(Printer) ->
    Monitor = monitor(process, Printer),
    Printer ! {finish, self()},
    receive
        {'DOWN', Monitor, process, _, _} -> ok
    after ?PRINT_GRACE ->
        unlink(Printer),
        exit(Printer, kill)
    end.

%% Prints whole characters; returns the bytes of one that is not complete.
printed(Data, Before) ->
    case unicode:characters_to_binary(<<Before/binary, Data/binary>>) of
        Text when is_binary(Text) ->
            print(Text),
            <<>>;
        {incomplete, Text, Rest} ->
            print(Text),
            Rest;
        {error, Text, Rest} ->
            print(<<Text/binary, (unicode:characters_to_binary(Rest, latin1))/binary>>),
            <<>>
    end.

%% To the group leader. What a call has printed by its own streams is printed by the instance: it has been when the call returns.
-spec print(binary()) -> ok.
print(<<>>) ->
    ok;
print(Text) ->
    try
        io:put_chars(Text)
    catch
        %% A device that is gone, or has no such characters, is no reason to end.
        error:_ -> ok
    end.
