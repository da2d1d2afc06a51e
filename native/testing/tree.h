// Tree: a decoder that keeps a term as plain data, and the way back. For tests and fuzzing only: it is
// neither fast nor frugal. It owns all its bytes; nodes refer to one another by index, so that deep terms
// need no recursion anywhere.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "etf/decode.h"
#include "etf/writer.h"

namespace typhon::etf {

class Tree {
 public:
  enum class Type : std::uint8_t {
    kInteger,
    kBig,
    kFloat,
    kAtom,
    kBinary,
    kLoan,
    kBits,
    kNil,
    kString,
    kPid,
    kPort,
    kReference,
    kExport,
    kFun,
    kLocal,
    kTuple,
    kList,
    kImproper,
    kMap,
  };

  struct Node {
    Type type{};
    bool negative = false;
    unsigned bits = 0;
    std::int64_t integer = 0;  // also the bits of a float
    std::string bytes;         // big: magnitude; atom: text; identifiers: node or module
    std::string raw;
    std::uint64_t id = 0;
    std::uint32_t serial = 0;
    std::uint32_t creation = 0;
    std::string words;                    // references; exports: the function
    std::vector<std::uint32_t> children;  // map: key, value, key, …; improper list: the tail is the last

    bool operator==(const Node&) const = default;
  };

  // HostDecoder; 0 is "no node".
  using Value = std::uint32_t;
  using Container = std::uint32_t;

  // OTP refuses maps with equal keys; comparing them is slow, so fuzzing leaves it out.
  bool reject_duplicate_keys = true;

  [[nodiscard]] const Node& at(Value value) const { return nodes_[value]; }
  [[nodiscard]] const std::vector<Node>& nodes() const { return nodes_; }
  [[nodiscard]] std::int64_t open() const { return open_; }  // containers neither closed nor abandoned
  [[nodiscard]] std::uint64_t atoms() const {
    return atoms_;
  }  // calls of atom(): what find_atom did not know
  [[nodiscard]] const std::string& path() const { return path_; }  // of the last failure: "[0][1]{2:value}"
  [[nodiscard]] int failures() const { return failures_; }
  [[nodiscard]] int extensions() const { return extensions_; }

  bool integer(std::int64_t value, Value& out) noexcept {
    Node& node = add(Type::kInteger, out);
    node.integer = value;
    return true;
  }
  bool big(bool negative, Bytes magnitude, Value& out) noexcept {
    Node& node = add(Type::kBig, out);
    node.negative = negative;
    node.bytes = text(magnitude);
    return true;
  }
  bool floating(double value, Value& out) noexcept {
    add(Type::kFloat, out).integer = std::bit_cast<std::int64_t>(value);
    return true;
  }
  bool find_atom(std::string_view bytes, Value& out) noexcept {
    if (!known_.contains(std::string(bytes))) return false;
    add(Type::kAtom, out).bytes = bytes;
    return true;
  }
  bool atom(std::string_view utf8, Value& out) noexcept {
    ++atoms_;
    known_.insert(std::string(utf8));
    add(Type::kAtom, out).bytes = utf8;
    return true;
  }
  bool binary(Bytes bytes, Value& out) noexcept {
    add(Type::kBinary, out).bytes = text(bytes);
    return true;
  }
  bool lent(std::uint32_t index, Value& out) noexcept {
    add(Type::kLoan, out).integer = index;
    return true;
  }
  bool bits(Bytes bytes, unsigned bits_in_last_byte, Value& out) noexcept {
    Node& node = add(Type::kBits, out);
    node.bytes = text(bytes);
    node.bytes.back() = static_cast<char>(bytes.back() & (0xff00u >> bits_in_last_byte));
    node.bits = bits_in_last_byte;
    return true;
  }
  bool nil(Value& out) noexcept {
    add(Type::kNil, out);
    return true;
  }
  bool string(Bytes bytes, Value& out) noexcept {
    add(Type::kString, out).bytes = text(bytes);
    return true;
  }
  bool pid(const PidView& view, Value& out) noexcept {
    Node& node = add(Type::kPid, out);
    node.bytes = view.node;
    node.id = view.id;
    node.serial = view.serial;
    node.creation = view.creation;
    return true;
  }
  bool port(const PortView& view, Value& out) noexcept {
    Node& node = add(Type::kPort, out);
    node.bytes = view.node;
    node.id = view.id;
    node.creation = view.creation;
    return true;
  }
  bool reference(const ReferenceView& view, Value& out) noexcept {
    Node& node = add(Type::kReference, out);
    node.bytes = view.node;
    node.words = text(view.words);
    node.creation = view.creation;
    return true;
  }
  bool exported_fun(const ExportView& view, Value& out) noexcept {
    Node& node = add(Type::kExport, out);
    node.bytes = view.module;
    node.words = view.function;
    node.id = view.arity;
    return true;
  }
  bool fun(const FunView& view, Value& out) noexcept {
    Node& node = add(Type::kFun, out);
    node.bytes = view.module;
    node.raw = text(view.raw);
    node.id = view.free_count;
    return true;
  }
  bool local(const LocalView& view, Value& out) noexcept {
    add(Type::kLocal, out).raw = text(view.raw);
    return true;
  }

  bool open_tuple(std::uint32_t, Container& out) noexcept { return open_node(Type::kTuple, out); }
  bool open_list(std::uint32_t, Container& out) noexcept { return open_node(Type::kList, out); }
  bool open_map(std::uint32_t, Container& out) noexcept { return open_node(Type::kMap, out); }
  bool extend_list(Container&, std::uint32_t) noexcept {
    ++extensions_;
    return true;
  }
  bool element(Container& container, std::uint32_t index, Value&& value) noexcept {
    std::vector<std::uint32_t>& children = nodes_[container].children;
    if (children.size() != index || value == 0) return false;
    children.push_back(value);
    return true;
  }
  bool map_key(Container& container, std::uint32_t index, Value&& key) noexcept {
    std::vector<std::uint32_t>& children = nodes_[container].children;
    if (children.size() != std::size_t{index} * 2 || key == 0) return false;
    children.push_back(key);
    return true;
  }
  bool map_value(Container& container, std::uint32_t index, Value&& value) noexcept {
    std::vector<std::uint32_t>& children = nodes_[container].children;
    if (children.size() != std::size_t{index} * 2 + 1 || value == 0) return false;
    children.push_back(value);
    return true;
  }
  bool close(Container& container, Value& out) noexcept {
    const Node& node = nodes_[container];
    if (node.type == Type::kMap && reject_duplicate_keys) {
      std::set<std::string> keys;
      for (std::size_t i = 0; i < node.children.size(); i += 2) {
        if (!keys.insert(encode(node.children[i])).second) return false;
      }
    }
    --open_;
    out = std::exchange(container, 0);
    return true;
  }
  bool close_improper(Container& container, Value&& tail, Value& out) noexcept {
    nodes_[container].type = Type::kImproper;
    nodes_[container].children.push_back(tail);
    --open_;
    out = std::exchange(container, 0);
    return true;
  }
  void abandon(Container& container) noexcept {
    container = 0;
    --open_;
  }
  void drop(Value&) noexcept {}
  void failed(const Outcome&, std::span<const Frame<Tree>> frames) noexcept {
    ++failures_;
    path_.clear();
    for (const Frame<Tree>& frame : frames) {
      const bool pair = frame.kind == Kind::kMap && frame.index < frame.count;
      path_ += pair ? "{" : "[";
      path_ += frame.part == Part::kTail ? "tail" : std::to_string(frame.index);
      if (pair) path_ += frame.part == Part::kKey ? ":key" : ":value";
      path_ += pair ? "}" : "]";
    }
  }

  // Writes a term without the version byte; identifiers in their newest form.
  bool write(Writer& writer, Value root) const {
    struct Position {
      Value node;
      std::size_t next;
    };
    std::vector<Position> stack;
    if (!write_head(writer, root)) return false;
    stack.push_back({root, is_string(nodes_[root]) ? nodes_[root].children.size() : 0});
    while (!stack.empty()) {
      Position& top = stack.back();
      const Node& node = nodes_[top.node];
      if (top.next == node.children.size()) {
        if (node.type == Type::kList && !is_string(node) && !writer.nil()) return false;
        stack.pop_back();
        continue;
      }
      const Value child = node.children[top.next++];
      if (!write_head(writer, child)) return false;
      stack.push_back({child, is_string(nodes_[child]) ? nodes_[child].children.size() : 0});
    }
    return true;
  }

  // The whole message.
  [[nodiscard]] std::string encode(Value root) const {
    HeapSink sink;
    Writer writer(sink);
    if (!writer.version() || !write(writer, root)) return "failed";
    return text(sink.bytes());
  }

  static std::string text(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
  static Bytes bytes_of(std::string_view text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
  }

 private:
  Node& add(Type type, Value& out) {
    out = static_cast<Value>(nodes_.size());
    Node& node = nodes_.emplace_back();
    node.type = type;
    return node;
  }
  bool open_node(Type type, Container& out) {
    add(type, out);
    ++open_;
    return true;
  }

  // A list that OTP writes as STRING_EXT, in whatever form it came.
  [[nodiscard]] bool is_string(const Node& node) const {
    if (node.type != Type::kList || node.children.size() > kMaxStringLength) return false;
    for (const Value child : node.children) {
      const Node& element = nodes_[child];
      if (element.type != Type::kInteger || element.integer < 0 || element.integer > 255) return false;
    }
    return true;
  }

  bool write_head(Writer& writer, Value value) const {
    const Node& node = nodes_[value];
    switch (node.type) {
      case Type::kInteger:
        return writer.integer(node.integer);
      case Type::kBig:
        return writer.big(node.negative, bytes_of(node.bytes));
      case Type::kFloat:
        return writer.floating(std::bit_cast<double>(node.integer));
      case Type::kAtom:
        return writer.atom(node.bytes);
      case Type::kLoan:
        return writer.lent(static_cast<std::uint32_t>(node.integer));
      case Type::kBinary:
        return writer.binary(node.bytes);
      case Type::kBits:
        return writer.bits(bytes_of(node.bytes), node.bits);
      case Type::kNil:
        return writer.nil();
      case Type::kString:
        return writer.string(bytes_of(node.bytes));
      case Type::kPid:
        return writer.pid({node.bytes, static_cast<std::uint32_t>(node.id), node.serial, node.creation, {}});
      case Type::kPort:
        return writer.port({node.bytes, node.id, node.creation, {}});
      case Type::kReference:
        return writer.reference({node.bytes, node.creation, bytes_of(node.words), {}});
      case Type::kExport:
        return writer.exported_fun(node.bytes, node.words, static_cast<std::uint32_t>(node.id));
      case Type::kFun:
      case Type::kLocal:
        return writer.raw(bytes_of(node.raw));
      case Type::kTuple:
        return writer.tuple_header(node.children.size());
      case Type::kList: {
        if (!is_string(node)) return writer.list_header(node.children.size());
        std::string bytes;
        for (const Value child : node.children) bytes += static_cast<char>(nodes_[child].integer);
        return writer.string(bytes_of(bytes));
      }
      case Type::kImproper:
        return writer.list_header(node.children.size() - 1);
      case Type::kMap:
        return writer.map_header(node.children.size() / 2);
    }
    return false;
  }

  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::set<std::string> known_;
  std::string path_;
  std::int64_t open_ = 0;
  std::uint64_t atoms_ = 0;
  int failures_ = 0;
  int extensions_ = 0;
};

static_assert(HostDecoder<Tree> && HasFindAtom<Tree> && HasFailed<Tree>);

}  // namespace typhon::etf
