#!/usr/bin/env escript
%% Writes index.tsv: encoded terms of every form of the External Term Format, checked by this machine's OTP.
%% Needs OTP 25 or newer. See README.md for the columns.
-mode(compile).

main([]) -> main([filename:join(filename:dirname(escript:script_name()), "index.tsv")]);
main([Path]) ->
    Rows = [row(Case) || Case <- cases()],
    Names = [Name || {Name, _} <- Rows],
    [] = Names -- lists:usort(Names),
    ok = file:write_file(Path, ["# name\tflags\thex\tcanonical\tsource (written by make.escript; see README.md)\n",
                                [Line || {_, Line} <- Rows]]),
    io:format("~b vectors in ~ts~n", [length(Rows), Path]).

%% --- rows ---

row({Name, emit, Term}) ->
    row({Name, emit, Term, io_lib:format("~0tp", [Term])});
row({Name, emit, Term, Source}) ->
    line(Name, ["accept", "exact"], canonical(Term), "-", Source);
row({Name, accept, Bytes, Source}) ->
    Term = binary_to_term(Bytes),
    case is_list(Source) of
        true -> same(Name, Term, Source);
        false -> ok
    end,
    Text = case Source of {text, T} -> T; T -> T end,
    case canonical(Term) of
        Bytes -> line(Name, ["accept", "exact"], Bytes, "-", Text);
        Other -> line(Name, ["accept"], Bytes, hex(Other), Text)
    end;
row({Name, compressed, Bytes, Source}) ->
    %% zlib's choices are its own: only the way back is fixed.
    Term = binary_to_term(Bytes),
    same(Name, Term, Source),
    line(Name, ["accept", "compressed"], Bytes, hex(canonical(Term)), Source);
row({Name, opaque, Bytes, Text}) ->
    %% Echoed as it came: OTP itself would write a newer form of what is inside.
    _ = binary_to_term(Bytes),
    line(Name, ["accept", "exact", "opaque"], Bytes, "-", Text);
row({Name, otp26, Bytes, Text}) ->
    line(Name, ["accept", "exact", "opaque", "otp26"], Bytes, "-", Text);
row({Name, reject, Bytes, Why}) ->
    Refused = try binary_to_term(Bytes) of _ -> false catch error:badarg -> true end,
    {Name, true} = {Name, Refused},
    line(Name, ["reject"], Bytes, "-", Why);
row({Name, strict, Bytes, Why}) ->
    %% OTP takes it though no encoder writes it; Typhon does not.
    _ = binary_to_term(Bytes),
    line(Name, ["reject", "strict"], Bytes, "-", Why).

line(Name, Flags, Bytes, Canonical, Source) ->
    {Name, [lists:join("\t", [Name, lists:join(",", Flags), hex(Bytes), Canonical,
                              unicode:characters_to_binary(Source)]), "\n"]}.

hex(Bytes) -> string:lowercase(binary:encode_hex(Bytes)).

%% As OTP 26 and newer write it by default: atoms in UTF-8.
canonical(Term) -> term_to_binary(Term, [{minor_version, 2}]).

same(Name, Term, Source) ->
    {ok, Tokens, _} = erl_scan:string(lists:flatten(Source) ++ "."),
    {ok, Parsed} = erl_parse:parse_exprs(Tokens),
    {value, Wanted, _} = erl_eval:exprs(Parsed, []),
    {Name, true} = {Name, Wanted =:= Term}.

%% --- cases ---

cases() ->
    integers() ++ floats() ++ atoms() ++ binaries() ++ lists_and_tuples() ++ maps() ++ identifiers() ++ funs() ++
        compressed() ++ rejected() ++ strict().

integers() ->
    Values = [0, 1, 127, 128, 255, 256, -1, -128, -256, 65535, 65536, 1 bsl 27 - 1, 1 bsl 27, 1 bsl 31 - 1, 1 bsl 31,
              -(1 bsl 31), -(1 bsl 31) - 1, 1 bsl 32 - 1, 1 bsl 32, 1 bsl 40, 1 bsl 53, 1 bsl 59 - 1, 1 bsl 59,
              -(1 bsl 59), -(1 bsl 59) - 1, 1 bsl 63 - 1, 1 bsl 63, -(1 bsl 63), -(1 bsl 63) - 1, 1 bsl 64 - 1,
              1 bsl 64, -(1 bsl 64) + 1, 1 bsl 127, -(1 bsl 128) + 12345, 1 bsl 2039 + 7, 1 bsl 2040 - 1],
    [{"integer_" ++ integer_to_list(V) , emit, V} || V <- Values, abs(V) < 1 bsl 130] ++
        [{"integer_small_big_255_bytes", emit, 1 bsl 2040 - 1, "1 bsl 2040 - 1"},
         {"integer_large_big_256_bytes", emit, 1 bsl 2040, "1 bsl 2040"},
         {"integer_large_big_negative", emit, -(1 bsl 2400) - 99, "-(1 bsl 2400) - 99"},
         {"integer_in_integer_ext", accept, <<131, 98, 5:32>>, "5"},
         {"integer_small_big_no_digits", accept, <<131, 110, 0, 0>>, "0"},
         {"integer_small_big_negative_zero", accept, <<131, 110, 2, 1, 0, 0>>, "0"},
         {"integer_small_big_leading_zeros", accept, <<131, 110, 10, 0, 5, 0:72>>, "5"},
         {"integer_small_big_sign_2", accept, <<131, 110, 1, 2, 5>>, "-5"},
         {"integer_large_big_small_value", accept, <<131, 111, 1:32, 0, 5>>, "5"},
         {"integer_large_big_no_digits", accept, <<131, 111, 0:32, 0>>, "0"},
         {"integer_large_big_min64", accept, <<131, 111, 8:32, 1, 0:56, 128>>, "-(1 bsl 63)"}].

floats() ->
    Values = [0.0, 1.0, -1.5, 3.141592653589793, 1.0e-300, 1.7976931348623157e308, 5.0e-324, -2.2250738585072014e-308],
    Text = fun(S) -> <<131, 99, (list_to_binary(S))/binary, 0:((31 - length(S)) * 8)>> end,
    [{"float_" ++ string:trim(io_lib:format("~p", [V])), emit, V} || V <- Values] ++
        [{"float_negative_zero", accept, <<131, 70, 128, 0:56>>, {text, "-0.0"}},
         {"float_text", accept, Text("1.50000000000000000000e+00"), "1.5"},
         {"float_text_negative", accept, Text("-3.14159265358979311600e+00"), "-3.141592653589793"},
         {"float_text_smallest", accept, Text("4.94065645841246544177e-324"), "5.0e-324"},
         {"float_text_largest", accept, Text("1.79769313486231570815e+308"), "1.7976931348623157e308"},
         {"float_text_underflow", accept, Text("1.0e-400"), "0.0"},
         {"float_text_plus", accept, Text("+1.5"), "1.5"},
         {"float_text_capital_e", accept, Text("1.5E+01"), "15.0"},
         {"float_text_comma", accept, Text("1,5e+00"), "1.5"},
         {"float_text_garbage_after_zero", accept, <<131, 99, "1.5", 0, "garbage", 0:160>>, "1.5"}].

atoms() ->
    Wide = lists:duplicate(255, 16#1f600),
    Emit = [ok, undefined, nil, true, false, '', 'hello world', 'Elixir.Typhon', list_to_atom(lists:duplicate(255, $a))],
    [{"atom_" ++ integer_to_list(N), emit, A} || {N, A} <- lists:zip(lists:seq(1, length(Emit)), Emit)] ++
        [{"atom_latin1_range", emit, list_to_atom([233, 255]), "list_to_atom([233,255])"},
         {"atom_beyond_latin1", emit, list_to_atom([16#3b1, 16#4e2d, 16#1f600]), "list_to_atom([945,20013,128512])"},
         {"atom_utf8_large", emit, list_to_atom(Wide), "list_to_atom(lists:duplicate(255, 128512))"},
         {"atom_with_zero_byte", emit, list_to_atom([0]), "list_to_atom([0])"},
         {"atom_noncharacter", emit, list_to_atom([16#fffe]), "list_to_atom([65534])"},
         {"atom_highest", emit, list_to_atom([16#10ffff]), "list_to_atom([1114111])"},
         {"atom_latin1_ext", accept, <<131, 100, 3:16, "foo">>, "foo"},
         {"atom_latin1_ext_255", accept, <<131, 100, 255:16, (binary:copy(<<233>>, 255))/binary>>,
          "list_to_atom(lists:duplicate(255, 233))"},
         {"atom_small_latin1_ext", accept, <<131, 115, 3, "foo">>, "foo"},
         {"atom_small_latin1_ext_umlauts", accept, <<131, 115, 3, 228, 246, 252>>, "list_to_atom([228,246,252])"},
         {"atom_small_latin1_ext_empty", accept, <<131, 115, 0>>, "''"},
         {"atom_utf8_ext_short", accept, <<131, 118, 3:16, "foo">>, "foo"},
         {"atom_utf8_ext_two_bytes", accept, <<131, 118, 2:16, 195, 169>>, "list_to_atom([233])"}].

binaries() ->
    [{"binary_empty", emit, <<>>},
     {"binary_text", emit, <<"hello">>},
     {"binary_utf8", emit, <<206, 177, 240, 159, 152, 128>>},
     {"binary_not_utf8", emit, <<255, 254, 0>>},
     {"binary_300", emit, binary:copy(<<"0123456789">>, 30)},
     {"bits_1", emit, <<1:1>>},
     {"bits_7", emit, <<85:7>>},
     {"bits_13", emit, <<5000:13>>},
     {"bits_8_in_last_byte", accept, <<131, 77, 1:32, 8, 255>>, "<<255>>"},
     {"bits_none", accept, <<131, 77, 0:32, 0>>, "<<>>"},
     {"bits_with_dirty_padding", accept, <<131, 77, 1:32, 3, 255>>, "<<7:3>>"}].

lists_and_tuples() ->
    [{"list_empty", emit, []},
     {"list_string", emit, [1, 2, 3]},
     {"list_string_one", emit, [0]},
     {"list_of_bytes_and_more", emit, [255, 256]},
     {"list_of_negative", emit, [-1]},
     {"list_mixed", emit, [a, 1.5, <<"b">>, {c}, [d], #{e => f}, []]},
     {"list_nested", emit, [[[[[]]]]]},
     {"list_improper", emit, [a | b]},
     {"list_improper_ints", emit, [1, 2 | 3]},
     {"list_improper_tuple_tail", emit, [1 | {2, [3]}]},
     {"list_improper_in_list", emit, [[1 | 2], [3 | <<"4">>]]},
     {"list_ext_of_bytes", accept, <<131, 108, 2:32, 97, 1, 97, 2, 106>>, "[1,2]"},
     {"list_ext_length_0", accept, <<131, 108, 0:32, 106>>, "[]"},
     {"list_ext_length_0_other_tail", accept, <<131, 108, 0:32, 97, 1>>, "1"},
     {"list_ext_length_0_twice", accept, <<131, 108, 0:32, 108, 0:32, 97, 1>>, "1"},
     {"list_tail_is_list", accept, <<131, 108, 1:32, 119, 1, $a, 108, 1:32, 97, 2, 106>>, "[a,2]"},
     {"list_tail_is_string", accept, <<131, 108, 1:32, 119, 1, $a, 107, 2:16, 1, 2>>, "[a,1,2]"},
     {"list_tail_is_improper_list", accept, <<131, 108, 1:32, 119, 1, $a, 108, 1:32, 97, 2, 97, 3>>, "[a,2|3]"},
     {"list_tail_is_empty_string", accept, <<131, 108, 1:32, 119, 1, $a, 107, 0:16>>, "[a]"},
     {"string_ext_empty", accept, <<131, 107, 0:16>>, "[]"},
     {"string_300", emit, lists:duplicate(300, 7)},
     {"tuple_empty", emit, {}},
     {"tuple_1", emit, {a}},
     {"tuple_nested", emit, {{{}}, {1, {2}}, []}},
     {"tuple_255", emit, list_to_tuple(lists:duplicate(255, x)), "list_to_tuple(lists:duplicate(255, x))"},
     {"tuple_256_large", emit, list_to_tuple(lists:duplicate(256, x)), "list_to_tuple(lists:duplicate(256, x))"},
     {"tuple_large_ext_of_1", accept, <<131, 105, 1:32, 97, 1>>, "{1}"},
     {"tuple_large_ext_empty", accept, <<131, 105, 0:32>>, "{}"}].

maps() ->
    Forty = maps:from_list([{N, N * N} || N <- lists:seq(1, 40)]),
    [{"map_empty", emit, #{}},
     {"map_1", emit, #{a => 1}},
     {"map_mixed_keys", emit, #{1 => one, <<"two">> => 2, {3} => [3], [4] => #{5 => 6}, 1.5 => nil}},
     {"map_equal_but_not_identical_keys", emit, #{1 => int, 1.0 => float}},
     {"map_nested", emit, #{<<"a">> => #{<<"b">> => #{<<"c">> => []}}}},
     {"map_as_key", emit, #{#{a => b} => #{c => d}}},
     {"map_list_key_improper", emit, #{[a | b] => c}},
     {"map_40", emit, Forty, "maps:from_list([{N, N * N} || N <- lists:seq(1, 40)])"},
     {"map_struct", accept,
      <<131, 116, 2:32, 119, 10, "__struct__", 119, 12, "Elixir.Thing", 119, 4, "name", 109, 1:32, "x">>,
      "#{'__struct__' => 'Elixir.Thing', name => <<\"x\">>}"}].

identifiers() ->
    N = <<119, 14, "typhon@example">>,
    L = <<100, 14:16, "typhon@example">>,
    U = <<119, 12, "t", 195, 169, "@example", 0>>,
    [{"pid_new", accept, <<131, 88, N/binary, 85:32, 2:32, 99:32>>, {text, "a pid"}},
     {"pid_new_wide", accept, <<131, 88, N/binary, 16#fffffffe:32, 16#ffffffff:32, 16#ffffffff:32>>, {text, "a pid"}},
     {"pid_new_latin1_node", accept, <<131, 88, L/binary, 85:32, 0:32, 1:32>>, {text, "a pid, node in ATOM_EXT"}},
     {"pid_new_other_node", accept, <<131, 88, U/binary, 85:32, 0:32, 1:32>>, {text, "a pid, node with umlaut"}},
     {"pid_old", accept, <<131, 103, N/binary, 85:32, 2:32, 3>>, {text, "a pid in PID_EXT"}},
     {"port_v4", accept, <<131, 120, N/binary, (1 bsl 60 + 5):64, 99:32>>, {text, "a port"}},
     {"port_v4_small_id", accept, <<131, 120, N/binary, 5:64, 99:32>>, {text, "a port that fits NEW_PORT_EXT"}},
     {"port_new", accept, <<131, 89, N/binary, 5:32, 99:32>>, {text, "a port in NEW_PORT_EXT"}},
     {"port_old", accept, <<131, 102, N/binary, 5:32, 2>>, {text, "a port in PORT_EXT"}},
     {"reference_newer_3", accept, <<131, 90, 3:16, N/binary, 99:32, 1:32, 2:32, 3:32>>, {text, "a reference"}},
     {"reference_newer_5", accept, <<131, 90, 5:16, N/binary, 99:32, 1:32, 2:32, 3:32, 4:32, 5:32>>,
      {text, "a reference of 5 words"}},
     {"reference_newer_1", accept, <<131, 90, 1:16, N/binary, 99:32, 16#ffffffff:32>>, {text, "a reference"}},
     {"reference_new", accept, <<131, 114, 3:16, N/binary, 1, 1:32, 2:32, 3:32>>,
      {text, "a reference in NEW_REFERENCE_EXT"}},
     {"reference_old", accept, <<131, 101, N/binary, 7:32, 2>>, {text, "a reference in REFERENCE_EXT"}},
     {"identifiers_in_a_list", accept,
      <<131, 108, 3:32, 88, N/binary, 1:32, 2:32, 3:32, 89, N/binary, 4:32, 5:32, 90, 1:16, N/binary, 6:32, 7:32, 106>>,
      {text, "[pid, port, reference]"}}].

funs() ->
    Forms = [{attribute, 1, module, typhon_vectors}, {attribute, 2, export, [{closure, 2}, {plain, 0}]},
             {function, 3, closure, 2,
              [{clause, 3, [{var, 3, 'A'}, {var, 3, 'B'}], [],
                [{'fun', 3, {clauses, [{clause, 3, [{var, 3, 'X'}], [],
                                        [{tuple, 3, [{var, 3, 'X'}, {var, 3, 'A'}, {var, 3, 'B'}]}]}]}}]}]},
             {function, 4, plain, 0,
              [{clause, 4, [], [], [{'fun', 4, {clauses, [{clause, 4, [], [], [{atom, 4, ok}]}]}}]}]}],
    {ok, typhon_vectors, Beam} = compile:forms(Forms, [deterministic]),
    {module, typhon_vectors} = code:load_binary(typhon_vectors, "typhon_vectors.beam", Beam),
    Inner = typhon_vectors:closure(one, two),
    [{"fun_export", emit, fun lists:map/2, "fun lists:map/2"},
     {"fun_export_integer_ext_arity", accept, <<131, 113, 119, 1, "a", 119, 1, "b", 98, 2:32>>, "fun a:b/2"},
     {"fun_export_latin1_atoms", accept, <<131, 113, 100, 1:16, "a", 115, 1, "b", 97, 2>>, "fun a:b/2"},
     {"fun_closure", opaque, closure(typhon_vectors:closure([1, 2], <<"free">>)), "fun(X) -> {X, [1,2], <<\"free\">>} end"},
     {"fun_without_free_variables", opaque, closure(typhon_vectors:plain()), "fun() -> ok end"},
     {"fun_in_fun", opaque, closure(typhon_vectors:closure(Inner, #{k => [Inner]})), "a fun with funs as free variables"},
     {"local", otp26, <<131, 121, 222, 173, 190, 239, 97, 1>>, "a term in a private format"}].

%% A closure's encoding names the process that made it: put a fixed one of equal length there, to have the same
%% bytes in every run.
closure(Fun) ->
    Bytes = canonical(Fun),
    <<131, 88, Self/binary>> = canonical(self()),
    Size = byte_size(Self) - 12,
    <<Node:Size/binary, _/binary>> = Self,
    binary:replace(Bytes, <<88, Self/binary>>, <<88, Node/binary, 85:32, 0:32, 0:32>>, [global]).

compressed() ->
    As = lists:duplicate(100, a),
    Inflated = <<104, 2, 97, 1, 107, 1:16, 7>>,
    [{"compressed_list", compressed, term_to_binary(As, [compressed, {minor_version, 2}]), "lists:duplicate(100, a)"},
     {"compressed_level_9", compressed, term_to_binary(As, [{compressed, 9}, {minor_version, 2}]),
      "lists:duplicate(100, a)"},
     {"compressed_stored", compressed,
      <<131, 80, (byte_size(Inflated)):32, (zlib_stream(Inflated, 0))/binary>>, "{1, [7]}"},
     {"compressed_zeros", compressed, term_to_binary(binary:copy(<<0>>, 20000), [compressed]),
      "binary:copy(<<0>>, 20000)"}].

zlib_stream(Bytes, Level) ->
    Z = zlib:open(),
    ok = zlib:deflateInit(Z, Level),
    Out = iolist_to_binary(zlib:deflate(Z, Bytes, finish)),
    zlib:close(Z),
    Out.

rejected() ->
    N = <<119, 14, "typhon@example">>,
    C = zlib:compress(<<97, 5>>),
    Text = fun(S) -> <<131, 99, (list_to_binary(S))/binary, 0:((31 - length(S)) * 8)>> end,
    Long = unicode:characters_to_binary(lists:duplicate(256, 233)),
    [{"reject_empty", reject, <<>>, "nothing at all"},
     {"reject_no_version", reject, <<97, 5>>, "no version byte"},
     {"reject_only_version", reject, <<131>>, "no term"},
     {"reject_tag_0", reject, <<131, 0>>, "an unknown tag"},
     {"reject_tag_255", reject, <<131, 255>>, "an unknown tag"},
     {"reject_version_inside", reject, <<131, 104, 1, 131, 97, 5>>, "a version byte inside"},
     {"reject_distribution_header", reject, <<131, 68, 0, 97, 1>>, "a distribution header"},
     {"reject_atom_cache_ref", reject, <<131, 82, 0>>, "ATOM_CACHE_REF outside of a distribution"},
     {"reject_old_fun", reject, <<131, 117, 0:32, 103, N/binary, 0:64, 0, 119, 1, "a", 97, 1, 97, 1>>, "FUN_EXT"},
     {"reject_infinity", reject, <<131, 70, 16#7ff0:16, 0:48>>, "infinity"},
     {"reject_negative_infinity", reject, <<131, 70, 16#fff0:16, 0:48>>, "-infinity"},
     {"reject_nan", reject, <<131, 70, 16#7ff8:16, 0:48>>, "not a number"},
     {"reject_float_text_empty", reject, Text(""), "no text"},
     {"reject_float_text_integer", reject, Text("1"), "no point"},
     {"reject_float_text_no_point", reject, Text("1e5"), "no point"},
     {"reject_float_text_no_fraction", reject, Text("5."), "no digits after the point"},
     {"reject_float_text_no_integer", reject, Text(".5"), "no digits before the point"},
     {"reject_float_text_no_exponent", reject, Text("1.5e"), "no digits in the exponent"},
     {"reject_float_text_inf", reject, Text("inf"), "not a number"},
     {"reject_float_text_nan", reject, Text("nan"), "not a number"},
     {"reject_float_text_hex", reject, Text("0x1p3"), "hexadecimal"},
     {"reject_float_text_space", reject, Text(" 1.5"), "a space"},
     {"reject_float_text_rest", reject, Text("1.5x"), "garbage after it"},
     {"reject_float_text_overflow", reject, Text("1.0e400"), "too large"},
     {"reject_atom_256_latin1", reject, <<131, 100, 256:16, (binary:copy(<<"a">>, 256))/binary>>, "256 characters"},
     {"reject_atom_256_utf8", reject, <<131, 118, 512:16, Long/binary>>, "256 characters"},
     {"reject_atom_bad_utf8", reject, <<131, 119, 1, 255>>, "not UTF-8"},
     {"reject_atom_overlong", reject, <<131, 119, 2, 16#c0, 16#80>>, "overlong UTF-8"},
     {"reject_atom_surrogate", reject, <<131, 119, 3, 16#ed, 16#a0, 16#80>>, "a surrogate"},
     {"reject_atom_beyond_unicode", reject, <<131, 119, 4, 16#f4, 16#90, 16#80, 16#80>>, "beyond U+10FFFF"},
     {"reject_atom_cut_sequence", reject, <<131, 119, 1, 16#c3>>, "a UTF-8 sequence cut off"},
     {"reject_bits_3_of_nothing", reject, <<131, 77, 0:32, 3>>, "bits in no bytes"},
     {"reject_bits_0", reject, <<131, 77, 1:32, 0, 255>>, "no bits in the last byte"},
     {"reject_bits_9", reject, <<131, 77, 1:32, 9, 255>>, "9 bits in the last byte"},
     {"reject_map_duplicate_keys", reject, <<131, 116, 2:32, 97, 1, 97, 1, 97, 1, 97, 2>>, "duplicate map keys"},
     {"reject_pid_old_creation_255", reject, <<131, 103, N/binary, 85:32, 2:32, 255>>, "two bits of creation only"},
     {"reject_pid_node_not_an_atom", reject, <<131, 88, 106, 1:32, 0:32, 0:32>>, "a node that is no atom"},
     {"reject_reference_6_words", reject, <<131, 90, 6:16, N/binary, 1:32, 1:32, 2:32, 3:32, 4:32, 5:32, 6:32>>,
      "a reference of 6 words"},
     {"reject_export_negative_arity", reject, <<131, 113, 119, 1, "a", 119, 1, "b", 98, -1:32>>, "a negative arity"},
     {"reject_compressed_empty", reject, <<131, 80, 0:32, (zlib:compress(<<>>))/binary>>, "nothing compressed"},
     {"reject_compressed_size_too_large", reject, <<131, 80, 3:32, C/binary>>, "more size than bytes"},
     {"reject_compressed_size_too_small", reject, <<131, 80, 1:32, C/binary>>, "more bytes than size"},
     {"reject_compressed_not_zlib", reject, <<131, 80, 2:32, "not zlib at all">>, "not a zlib stream"},
     {"reject_compressed_inside", reject, <<131, 104, 1, 80, 2:32, C/binary>>, "a compressed term inside"},
     {"reject_compressed_version_inside", reject, <<131, 80, 3:32, (zlib:compress(<<131, 97, 5>>))/binary>>,
      "a version byte inside"},
     {"reject_list_huge_length", reject, <<131, 108, 16#ffffffff:32, 97, 1>>, "4294967295 elements in 2 bytes"},
     {"reject_tuple_huge_arity", reject, <<131, 105, 16#ffffffff:32, 97, 1>>, "4294967295 elements in 2 bytes"},
     {"reject_map_huge_size", reject, <<131, 116, 16#ffffffff:32, 97, 1>>, "4294967295 pairs in 2 bytes"},
     {"reject_binary_huge_size", reject, <<131, 109, 16#ffffffff:32, 97, 1>>, "4294967295 bytes in 2"},
     {"reject_big_huge_size", reject, <<131, 111, 16#ffffffff:32, 0, 1>>, "4294967295 bytes in 1"}].

strict() ->
    C = zlib:compress(<<97, 5, 7>>),
    {Size, Rest} = case closure(typhon_vectors:plain()) of <<131, 112, S:32, R/binary>> -> {S, R} end,
    [{"strict_trailing_bytes", strict, <<131, 97, 1, 99>>, "bytes after the term"},
     {"strict_trailing_bytes_inflated", strict, <<131, 80, 3:32, C/binary>>, "bytes after the inflated term"},
     {"strict_trailing_bytes_compressed", strict, <<131, 80, 2:32, (zlib:compress(<<97, 5>>))/binary, 1>>,
      "bytes after the zlib stream"},
     {"strict_fun_size_too_small", strict, <<131, 112, (Size - 1):32, Rest/binary>>, "a fun longer than its size"},
     {"strict_fun_size_0", strict, <<131, 112, 0:32, Rest/binary>>, "a fun longer than its size"}].
