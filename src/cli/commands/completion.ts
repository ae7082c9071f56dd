// `meshctl completion <shell>` prints a small script for the shell. The script asks `meshctl __complete` at each press
// of Tab, so that commands, flags and the names of clusters come from one place (completion/complete.ts) for all
// shells, and a newer meshctl needs no newer script. The command does not ask meshd.
import { Argument, type Command } from 'commander'
import { addExamples } from '../meshd/context.ts'

/** Adds the command `completion`. commander refuses another shell than bash, zsh and fish (exit code 2). */
export function addCompletion(program: Command): void {
  const command = program
    .command('completion')
    .summary('a script that makes the shell complete meshctl')
    .description(
      'Prints the completion script for a shell. It completes commands, flags, and names that meshd knows.'
    )
    .addArgument(new Argument('<shell>', 'bash, zsh or fish').choices(Object.keys(SCRIPTS)))
    .action((shell: keyof typeof SCRIPTS) => {
      process.stdout.write(SCRIPTS[shell])
    })
  addExamples(command, [
    ['bash, for all users', 'meshctl completion bash | sudo tee /etc/bash_completion.d/meshctl > /dev/null'],
    ['bash, in ~/.bashrc', 'source <(meshctl completion bash)'],
    ['zsh, in ~/.zshrc after compinit', 'source <(meshctl completion zsh)'],
    ['fish', 'meshctl completion fish > ~/.config/fish/completions/meshctl.fish']
  ])
}

// The protocol of __complete: one line per candidate, "value<Tab>description"; the line ":files" asks for names of
// files. `command` runs the program that the user has typed and not a shell function or alias of that name. bash does
// not expand a tilde in COMP_WORDS, so the script does it. In these templates "${'$'}{" stands for "${" of the shell.
const BASH = String.raw`# bash completion for meshctl
_meshctl() {
  local current="${'$'}{COMP_WORDS[COMP_CWORD]}" value rest path
  [[ $current == '=' ]] && current=''
  COMPREPLY=()
  while IFS=$'\t' read -r value rest; do
    if [[ $value == ':files' ]]; then
      compopt -o filenames 2>/dev/null
      while IFS= read -r path; do COMPREPLY+=("$path"); done < <(compgen -f -- "$current")
    else
      COMPREPLY+=("$value")
    fi
  done < <(command "${'$'}{COMP_WORDS[0]/#\~/$HOME}" __complete -- "${'$'}{COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _meshctl meshctl
`

// _describe splits at a colon, so a colon in a value gets a backslash. The last lines serve both ways to load the
// script: from a folder of $fpath, where zsh runs the file as the function, and with `source`.
const ZSH = String.raw`#compdef meshctl
# zsh completion for meshctl
_meshctl() {
  local value rest
  local -a candidates
  while IFS=$'\t' read -r value rest; do
    if [[ $value == ':files' ]]; then
      _files
      return
    fi
    candidates+=("${'$'}{value//:/\\:}:$rest")
  done < <(command "${'$'}{words[1]/#\~/$HOME}" __complete -- "${'$'}{(@)words[2,CURRENT]}" 2>/dev/null)
  _describe meshctl candidates
}
if [[ "$funcstack[1]" == '_meshctl' ]]; then
  _meshctl "$@"
else
  compdef _meshctl meshctl
fi
`

// `commandline -opc` has the words before the cursor, `-ct` the word at the cursor. fish reads the tab and the
// description itself.
const FISH = String.raw`# fish completion for meshctl
function __meshctl_complete
  set -l words (commandline -opc) (commandline -ct)
  for line in (command $words[1] __complete -- $words[2..-1] 2>/dev/null)
    if test "$line" = ':files'
      __fish_complete_path (commandline -ct)
    else
      echo $line
    end
  end
end
complete -c meshctl -f -a '(__meshctl_complete)'
`

const SCRIPTS = { bash: BASH, zsh: ZSH, fish: FISH }
