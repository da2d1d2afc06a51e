// The stand-in for the emulator: terms, and what erl_nif.h has for them.
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>

#include "testing/emulator.h"
#include "testing/emulator_world.h"

namespace typhon::testing {

namespace {

std::string_view bytes_of(const Term& term) noexcept {
  return term.data ? std::string_view(reinterpret_cast<const char*>(term.data), term.size)
                   : std::string_view(term.bytes);
}

void write(std::string& out, const Term& term);

void write_all(std::string& out, const std::vector<ERL_NIF_TERM>& terms) {
  for (std::size_t i = 0; i < terms.size(); ++i) {
    if (i != 0) out += ',';
    write(out, at(terms[i]));
  }
}

void write(std::string& out, const Term& term) {
  switch (term.kind) {
    case Kind::kAtom:
      out += term.bytes;
      break;
    case Kind::kInteger:
      out += term.negative ? std::to_string(static_cast<std::int64_t>(term.number))
                           : std::to_string(term.number);
      break;
    case Kind::kFloat:
      out += std::to_string(term.real);
      break;
    case Kind::kBinary:
      out += '"';
      out += bytes_of(term);
      out += '"';
      break;
    case Kind::kTuple:
      out += '{';
      write_all(out, term.of);
      out += '}';
      break;
    case Kind::kCell:
      out += '[';
      write(out, at(term.of[0]));
      out += '|';
      write(out, at(term.of[1]));
      out += ']';
      break;
    case Kind::kNil:
      out += "[]";
      break;
    case Kind::kMap:
      out += "#{";
      write_all(out, term.of);
      out += '}';
      break;
    case Kind::kReference:
      out += "#Ref";
      break;
    case Kind::kPid:
      out += "#Pid";
      break;
  }
}

// The value of a key; 0: none.
ERL_NIF_TERM* find(Term& map, ERL_NIF_TERM key) noexcept {
  for (std::size_t i = 0; i < map.of.size(); i += 2) {
    if (compare(map.of[i], key) == 0) return &map.of[i + 1];
  }
  return nullptr;
}

template <class Number>
int get_number(ERL_NIF_TERM term, Number* out) noexcept {
  const Term& value = at(term);
  if (value.kind != Kind::kInteger) return 0;
  const auto number = static_cast<Number>(value.number);
  const bool is_negative = number < Number{0};
  if (is_negative != value.negative || static_cast<std::uint64_t>(number) != value.number) return 0;
  *out = number;
  return 1;
}

}  // namespace

ERL_NIF_TERM intern(std::string_view name) {
  World& all = world();
  const std::lock_guard lock(all.mutex);
  auto& atom = all.atoms[std::string(name)];
  if (!atom) atom = std::make_unique<Term>(Term{.kind = Kind::kAtom, .bytes = std::string(name)});
  return name_of(*atom);
}

ERL_NIF_TERM copy(ErlNifEnv* to, ERL_NIF_TERM term) {
  const Term& from = at(term);
  if (from.kind == Kind::kAtom || from.kind == Kind::kPid) return term;
  Term made{.kind = from.kind,
            .bytes = from.bytes,
            .negative = from.negative,
            .number = from.number,
            .real = from.real,
            .resource = from.resource,
            .data = from.data,
            .size = from.size};
  if (made.resource) made.resource->count.fetch_add(1, std::memory_order_relaxed);
  for (const ERL_NIF_TERM element : from.of) made.of.push_back(copy(to, element));
  return make(to, std::move(made));
}

// By kind, then by what it holds: an order for keys of maps, not Erlang's.
int compare(ERL_NIF_TERM left, ERL_NIF_TERM right) noexcept {
  const Term& a = at(left);
  const Term& b = at(right);
  if (a.kind != b.kind) return a.kind < b.kind ? -1 : 1;
  if (a.kind == Kind::kPid) return left == right ? 0 : left < right ? -1 : 1;
  if (a.negative != b.negative) return a.negative ? -1 : 1;
  if (a.number != b.number) return a.number < b.number ? -1 : 1;
  if (a.real != b.real) return a.real < b.real ? -1 : 1;
  if (const int bytes = bytes_of(a).compare(bytes_of(b))) return bytes;
  if (a.of.size() != b.of.size()) return a.of.size() < b.of.size() ? -1 : 1;
  for (std::size_t i = 0; i < a.of.size(); ++i) {
    if (const int element = compare(a.of[i], b.of[i])) return element;
  }
  return 0;
}

std::string text_of(ERL_NIF_TERM term) {
  std::string out;
  write(out, at(term));
  return out;
}

}  // namespace typhon::testing

using namespace typhon::testing;  // what follows has names of C alone

extern "C" {

// Numbers, atoms, binaries

ERL_NIF_TERM enif_make_ulong(ErlNifEnv* env, unsigned long value) {
  return make(env, {.kind = Kind::kInteger, .number = value});
}
ERL_NIF_TERM enif_make_long(ErlNifEnv* env, long value) {
  return make(env,
              {.kind = Kind::kInteger, .negative = value < 0, .number = static_cast<std::uint64_t>(value)});
}
ERL_NIF_TERM enif_make_int(ErlNifEnv* env, int value) { return enif_make_long(env, value); }
ERL_NIF_TERM enif_make_uint(ErlNifEnv* env, unsigned value) { return enif_make_ulong(env, value); }
ERL_NIF_TERM enif_make_double(ErlNifEnv* env, double value) {
  return make(env, {.kind = Kind::kFloat, .real = value});
}
int enif_get_ulong(ErlNifEnv*, ERL_NIF_TERM term, unsigned long* out) { return get_number(term, out); }
int enif_get_long(ErlNifEnv*, ERL_NIF_TERM term, long* out) { return get_number(term, out); }
int enif_get_int(ErlNifEnv*, ERL_NIF_TERM term, int* out) { return get_number(term, out); }
int enif_get_uint(ErlNifEnv*, ERL_NIF_TERM term, unsigned* out) { return get_number(term, out); }
int enif_get_double(ErlNifEnv*, ERL_NIF_TERM term, double* out) {
  *out = at(term).real;
  return is(term, Kind::kFloat) ? 1 : 0;
}

ERL_NIF_TERM enif_make_atom_len(ErlNifEnv*, const char* name, size_t size) { return intern({name, size}); }
ERL_NIF_TERM enif_make_atom(ErlNifEnv*, const char* name) { return intern(name); }
int enif_make_existing_atom_len(ErlNifEnv*, const char* name, size_t size, ERL_NIF_TERM* atom,
                                ErlNifCharEncoding) {
  *atom = intern({name, size});
  return 1;
}
int enif_is_atom(ErlNifEnv*, ERL_NIF_TERM term) { return is(term, Kind::kAtom) ? 1 : 0; }
int enif_get_atom(ErlNifEnv*, ERL_NIF_TERM atom, char* out, unsigned size, ErlNifCharEncoding) {
  const std::string& name = at(atom).bytes;
  if (!is(atom, Kind::kAtom) || name.size() >= size) return 0;
  std::memcpy(out, name.c_str(), name.size() + 1);
  return static_cast<int>(name.size() + 1);
}

unsigned char* enif_make_new_binary(ErlNifEnv* env, size_t size, ERL_NIF_TERM* term) {
  *term = make(env, {.kind = Kind::kBinary, .bytes = std::string(size, '\0')});
  return reinterpret_cast<unsigned char*>(mutable_at(*term).bytes.data());
}
ERL_NIF_TERM enif_make_resource_binary(ErlNifEnv* env, void* object, const void* data, size_t size) {
  enif_keep_resource(object);
  return make(env, {.kind = Kind::kBinary,
                    .resource = &Resource::of(object),
                    .data = static_cast<const unsigned char*>(data),
                    .size = size});
}
int enif_is_binary(ErlNifEnv*, ERL_NIF_TERM term) { return is(term, Kind::kBinary) ? 1 : 0; }
int enif_inspect_binary(ErlNifEnv*, ERL_NIF_TERM term, ErlNifBinary* binary) {
  if (!is(term, Kind::kBinary)) return 0;
  const std::string_view bytes = bytes_of(at(term));
  binary->size = bytes.size();
  binary->data = reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data()));
  return 1;
}
void enif_release_binary(ErlNifBinary*) {}

// Tuples, lists, maps

ERL_NIF_TERM enif_make_tuple_from_array(ErlNifEnv* env, const ERL_NIF_TERM elements[], unsigned count) {
  return make(env, {.kind = Kind::kTuple, .of = {elements, elements + count}});
}
ERL_NIF_TERM enif_make_tuple(ErlNifEnv* env, unsigned count, ...) {
  std::vector<ERL_NIF_TERM> elements(count);
  va_list list;
  va_start(list, count);
  for (ERL_NIF_TERM& element : elements) element = va_arg(list, ERL_NIF_TERM);
  va_end(list);
  return enif_make_tuple_from_array(env, elements.data(), count);
}
int enif_get_tuple(ErlNifEnv*, ERL_NIF_TERM term, int* arity, const ERL_NIF_TERM** elements) {
  if (!is(term, Kind::kTuple)) return 0;
  *arity = static_cast<int>(at(term).of.size());
  *elements = at(term).of.data();
  return 1;
}
ERL_NIF_TERM enif_make_list_cell(ErlNifEnv* env, ERL_NIF_TERM head, ERL_NIF_TERM tail) {
  return make(env, {.kind = Kind::kCell, .of = {head, tail}});
}
ERL_NIF_TERM enif_make_list_from_array(ErlNifEnv* env, const ERL_NIF_TERM elements[], unsigned count) {
  ERL_NIF_TERM list = make(env, {.kind = Kind::kNil});
  for (unsigned i = count; i > 0; --i) list = enif_make_list_cell(env, elements[i - 1], list);
  return list;
}
ERL_NIF_TERM enif_make_list(ErlNifEnv* env, unsigned count, ...) {
  std::vector<ERL_NIF_TERM> elements(count);
  va_list list;
  va_start(list, count);
  for (ERL_NIF_TERM& element : elements) element = va_arg(list, ERL_NIF_TERM);
  va_end(list);
  return enif_make_list_from_array(env, elements.data(), count);
}
int enif_get_list_cell(ErlNifEnv*, ERL_NIF_TERM term, ERL_NIF_TERM* head, ERL_NIF_TERM* tail) {
  if (!is(term, Kind::kCell)) return 0;
  *head = at(term).of[0];
  *tail = at(term).of[1];
  return 1;
}
int enif_is_empty_list(ErlNifEnv*, ERL_NIF_TERM term) { return is(term, Kind::kNil) ? 1 : 0; }
int enif_make_reverse_list(ErlNifEnv* env, ERL_NIF_TERM term, ERL_NIF_TERM* list) {
  *list = make(env, {.kind = Kind::kNil});
  ERL_NIF_TERM head = 0;
  while (enif_get_list_cell(env, term, &head, &term)) *list = enif_make_list_cell(env, head, *list);
  return is(term, Kind::kNil) ? 1 : 0;
}

ERL_NIF_TERM enif_make_new_map(ErlNifEnv* env) { return make(env, {.kind = Kind::kMap}); }
int enif_is_map(ErlNifEnv*, ERL_NIF_TERM term) { return is(term, Kind::kMap) ? 1 : 0; }
int enif_get_map_size(ErlNifEnv*, ERL_NIF_TERM term, size_t* size) {
  *size = at(term).of.size() / 2;
  return is(term, Kind::kMap) ? 1 : 0;
}
int enif_make_map_put(ErlNifEnv* env, ERL_NIF_TERM map, ERL_NIF_TERM key, ERL_NIF_TERM value,
                      ERL_NIF_TERM* out) {
  if (!is(map, Kind::kMap)) return 0;
  *out = make(env, {.kind = Kind::kMap, .of = at(map).of});
  Term& made = mutable_at(*out);
  if (ERL_NIF_TERM* const found = find(made, key)) {
    *found = value;
  } else {
    made.of.push_back(key);
    made.of.push_back(value);
  }
  return 1;
}
int enif_get_map_value(ErlNifEnv*, ERL_NIF_TERM map, ERL_NIF_TERM key, ERL_NIF_TERM* value) {
  if (!is(map, Kind::kMap)) return 0;
  const ERL_NIF_TERM* const found = find(mutable_at(map), key);
  if (found) *value = *found;
  return found ? 1 : 0;
}
int enif_make_map_from_arrays(ErlNifEnv* env, ERL_NIF_TERM keys[], ERL_NIF_TERM values[], size_t count,
                              ERL_NIF_TERM* out) {
  *out = enif_make_new_map(env);
  Term& made = mutable_at(*out);
  for (size_t i = 0; i < count; ++i) {
    if (find(made, keys[i])) return 0;
    made.of.push_back(keys[i]);
    made.of.push_back(values[i]);
  }
  return 1;
}
int enif_map_iterator_create(ErlNifEnv*, ERL_NIF_TERM map, ErlNifMapIterator* iterator,
                             ErlNifMapIteratorEntry) {
  if (!is(map, Kind::kMap)) return 0;
  *iterator = ErlNifMapIterator{};
  iterator->map = map;
  return 1;
}
void enif_map_iterator_destroy(ErlNifEnv*, ErlNifMapIterator*) {}
int enif_map_iterator_get_pair(ErlNifEnv*, ErlNifMapIterator* iterator, ERL_NIF_TERM* key,
                               ERL_NIF_TERM* value) {
  const auto& entries = at(iterator->map).of;
  if (iterator->idx + 1 >= entries.size()) return 0;
  *key = entries[iterator->idx];
  *value = entries[iterator->idx + 1];
  return 1;
}
int enif_map_iterator_next(ErlNifEnv*, ErlNifMapIterator* iterator) {
  iterator->idx += 2;
  return iterator->idx < at(iterator->map).of.size() ? 1 : 0;
}

// References, ports (there are none), kinds

ERL_NIF_TERM enif_make_ref(ErlNifEnv* env) {
  return make(env, {.kind = Kind::kReference, .number = world().counter.fetch_add(1) + 1});
}
int enif_is_ref(ErlNifEnv*, ERL_NIF_TERM term) { return is(term, Kind::kReference) ? 1 : 0; }
int enif_is_port(ErlNifEnv*, ERL_NIF_TERM) { return 0; }
ErlNifTermType enif_term_type(ErlNifEnv*, ERL_NIF_TERM term) {
  switch (at(term).kind) {
    case Kind::kAtom:
      return ERL_NIF_TERM_TYPE_ATOM;
    case Kind::kInteger:
      return ERL_NIF_TERM_TYPE_INTEGER;
    case Kind::kFloat:
      return ERL_NIF_TERM_TYPE_FLOAT;
    case Kind::kBinary:
      return ERL_NIF_TERM_TYPE_BITSTRING;
    case Kind::kTuple:
      return ERL_NIF_TERM_TYPE_TUPLE;
    case Kind::kCell:
    case Kind::kNil:
      return ERL_NIF_TERM_TYPE_LIST;
    case Kind::kMap:
      return ERL_NIF_TERM_TYPE_MAP;
    case Kind::kReference:
      return ERL_NIF_TERM_TYPE_REFERENCE;
    case Kind::kPid:
      break;
  }
  return ERL_NIF_TERM_TYPE_PID;
}

// The external format is the NIF's own; what it leaves to the emulator is not needed here.
int enif_term_to_binary(ErlNifEnv*, ERL_NIF_TERM, ErlNifBinary*) { missing("external format"); }
size_t enif_binary_to_term(ErlNifEnv*, const unsigned char*, size_t, ERL_NIF_TERM*, unsigned) {
  missing("external format");
}
int enif_select(ErlNifEnv*, ErlNifEvent, enum ErlNifSelectFlags, void*, const ErlNifPid*, ERL_NIF_TERM) {
  missing("poll set");
}
int enif_select_x(ErlNifEnv*, ErlNifEvent, enum ErlNifSelectFlags, void*, const ErlNifPid*, ERL_NIF_TERM,
                  ErlNifEnv*) {
  missing("poll set");
}
int enif_snprintf(char* out, size_t size, const char* format, ...) {
  va_list list;
  va_start(list, format);
  const int written = std::vsnprintf(out, size, format, list);
  va_end(list);
  return written;
}

}  // extern "C"
