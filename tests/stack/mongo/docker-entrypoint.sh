#!/bin/sh
# As in the official image: options without a command are passed to mongod.
case ${1:-} in -*) set -- mongod "$@" ;; esac
exec "$@"
