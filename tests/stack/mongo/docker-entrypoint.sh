#!/bin/sh
# As the official image's: options alone are those of mongod.
case ${1:-} in -*) set -- mongod "$@" ;; esac
exec "$@"
