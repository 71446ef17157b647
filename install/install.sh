#!/bin/sh
# install.sh install|uninstall: what `make install` and `make uninstall` do.
#
# The packages go, with what they need, into a virtual environment of their own; around it goes what
# Debian and systemd expect, where they expect it. From the environment: PREFIX, DESTDIR (what is
# before PREFIX while a package is built), INSTALL_PYTHON (what runs jobkeep), PIP (what installs it).
set -eu
cd "$(dirname "$0")/.."

lib=$PREFIX/lib/jobkeep
unit_files='system/jobkeep.service system/jobkeep.socket user/jobkeep.service user/jobkeep.socket'
share=$PREFIX/share
# Where each made file goes.
bash_completion=$share/bash-completion/completions/jobkeep
case $PREFIX in # where Debian's zsh looks
/usr) zsh_completion=$share/zsh/vendor-completions/_jobkeep ;;
*) zsh_completion=$share/zsh/site-functions/_jobkeep ;;
esac
fish_completion=$share/fish/vendor_completions.d/jobkeep.fish
manual_jobkeep=$share/man/man1/jobkeep.1
manual_jobkeepd=$share/man/man8/jobkeepd.8
sample=$share/doc/jobkeep/examples/jobkeepd.toml

put() { # put PATH: standard input becomes this file
    mkdir -p "$DESTDIR$(dirname "$1")"
    rm -f "$DESTDIR$1"
    cat >"$DESTDIR$1"
    chmod 0644 "$DESTDIR$1"
}

install_packages() {
    rm -rf "$DESTDIR$lib"
    "$INSTALL_PYTHON" -m venv --without-pip "$DESTDIR$lib"
    "$PIP" --python "$DESTDIR$lib/bin/python" install --quiet --disable-pip-version-check \
        --root-user-action=ignore --no-compile '.[cli,daemon]'
    for command in jobkeep jobkeepd; do # -I: nothing of the caller's environment is imported
        sed -i "1s|.*|#!$lib/bin/python -I|" "$DESTDIR$lib/bin/$command"
        mkdir -p "$DESTDIR$PREFIX/bin"
        ln -sf "../lib/jobkeep/bin/$command" "$DESTDIR$PREFIX/bin/$command"
    done
    find "$DESTDIR$lib/bin" -type f ! -name jobkeep ! -name jobkeepd -delete
    sed -i '/^command = /d' "$DESTDIR$lib/pyvenv.cfg" # it names DESTDIR
    "$DESTDIR$lib/bin/python" -I -m compileall -q ${DESTDIR:+-s "$DESTDIR" -p /} "$DESTDIR$lib/lib"
}

install_around_them() {
    for unit in $unit_files; do
        sed "s|@BINDIR@|$PREFIX/bin|" "systemd/$unit" | put "$PREFIX/lib/systemd/$unit"
    done
    put "$PREFIX/lib/sysusers.d/jobkeep.conf" <systemd/sysusers.conf
    put "$PREFIX/lib/tmpfiles.d/jobkeep.conf" <systemd/tmpfiles.conf

    python="$DESTDIR$lib/bin/python -I"
    _JOBKEEP_COMPLETE=bash_source $python -m jobkeep.cli | put "$bash_completion"
    _JOBKEEP_COMPLETE=zsh_source $python -m jobkeep.cli | put "$zsh_completion"
    _JOBKEEP_COMPLETE=fish_source $python -m jobkeep.cli | put "$fish_completion"
    $python install/manual.py jobkeep | put "$manual_jobkeep"
    $python install/manual.py jobkeepd | put "$manual_jobkeepd"
    $python -m jobkeepd --print-config | put "$sample"
}

uninstall() {
    rm -rf "$DESTDIR$lib"
    for path in bin/jobkeep bin/jobkeepd lib/sysusers.d/jobkeep.conf lib/tmpfiles.d/jobkeep.conf; do
        rm -f "$DESTDIR$PREFIX/$path"
    done
    for unit in $unit_files; do
        rm -f "$DESTDIR$PREFIX/lib/systemd/$unit"
    done
    rm -f "$DESTDIR$bash_completion" "$DESTDIR$zsh_completion" "$DESTDIR$fish_completion" \
        "$DESTDIR$manual_jobkeep" "$DESTDIR$manual_jobkeepd"
    rm -rf "$DESTDIR$share/doc/jobkeep"
}

case $1 in
install)
    umask 022
    install_packages
    install_around_them
    echo "Installed in $DESTDIR$PREFIX. To start it, as root:"
    echo '  systemd-sysusers && systemd-tmpfiles --create jobkeep.conf && systemctl daemon-reload'
    echo '  systemctl enable --now jobkeep.socket jobkeep.service'
    ;;
uninstall)
    uninstall
    echo 'The database, the user jobkeep and /etc/jobkeep are left as they are.'
    ;;
esac
