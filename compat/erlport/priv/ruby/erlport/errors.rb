# frozen_string_literal: true

# What ErlPort raises for a wrong value.
class ValueError < Exception; end # rubocop:disable Lint/InheritException
