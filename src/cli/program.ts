// The tree of meshctl's commands, and its general help. Every command is one file in commands/ that adds itself to the
// program; the options that all commands share are in meshd/context.ts. commander parses the line and prints the help.
import { Command } from 'commander'
import { addAdmin } from './commands/admin.ts'
import { addBackup } from './commands/backup.ts'
import { addBundle } from './commands/bundle.ts'
import { addCert } from './commands/cert.ts'
import { addComplete } from './completion/complete.ts'
import { addCompletion } from './commands/completion.ts'
import { addGlobalOptions } from './meshd/context.ts'
import { addDecide } from './commands/decide.ts'
import { addDns } from './commands/dns.ts'
import { addDoctor } from './commands/doctor.ts'
import { addDrain, addUndrain } from './commands/drain.ts'
import { addDrift } from './commands/drift.ts'
import { addEvents } from './commands/events.ts'
import { EXIT_CODES } from './output/exit-codes.ts'
import { addGrant } from './commands/grant.ts'
import { addInit } from './commands/init.ts'
import { addInstall } from './commands/install.ts'
import { addInvite } from './commands/invite.ts'
import { addJoin } from './commands/join.ts'
import { addKey } from './commands/key.ts'
import { addLeave } from './commands/leave.ts'
import { addPeers } from './commands/peers.ts'
import { addPing } from './commands/ping.ts'
import { addPlan } from './commands/plan.ts'
import { addRemove } from './commands/remove.ts'
import { addRestore } from './commands/restore.ts'
import { addRevoke } from './commands/revoke.ts'
import { addRoot } from './commands/root.ts'
import { release } from './release.ts'
import { addRoutes } from './commands/routes.ts'
import { addServices } from './commands/services.ts'
import { addStatus } from './commands/status.ts'
import { addTrust } from './commands/trust.ts'
import { addUninstall } from './commands/uninstall.ts'
import { addVerify } from './commands/verify.ts'
import { addVersion } from './commands/version.ts'
import { addWhy } from './commands/why.ts'

/**
 * Returns a program with all commands, which has parsed nothing yet. Where commander would end the process, for help
 * and for a wrong command line, parsing throws a CommanderError instead (exitOverride).
 */
export function createProgram(): Command {
  const program = new Command('meshctl')
    .description('Shows and steers the mesh of clusters that this host is part of, through the agent meshd.')
    .version(release(), '-V, --version', 'the version of meshctl')
    .usage('<command> [options]')
    .helpOption('-h, --help', 'show the help; after a command, the help of that command')
    .configureHelp({ showGlobalOptions: true })
    .showSuggestionAfterError(true)
    .exitOverride()
    // Errors are printed by main.ts, as text or JSON.
    .configureOutput({ outputError: () => {} })
    .addHelpText('after', () => HELP)
  addGlobalOptions(program)

  // The order of these calls is the order in the help.
  program.commandsGroup('Build the mesh:')
  addInit(program)
  addInvite(program)
  addJoin(program)
  addLeave(program)
  program.commandsGroup('Administer the mesh:')
  addTrust(program)
  addAdmin(program)
  addRoot(program)
  addBackup(program)
  addRemove(program)
  addRevoke(program)
  addRestore(program)
  addDecide(program)
  addGrant(program)
  addKey(program)
  addCert(program)
  program.commandsGroup('Maintain this gateway:')
  addDrain(program)
  addUndrain(program)
  program.commandsGroup('Kubernetes and OpenShift:')
  addInstall(program)
  addUninstall(program)
  program.commandsGroup('Look around:')
  addStatus(program)
  addPeers(program)
  addServices(program)
  addRoutes(program)
  addDns(program)
  addWhy(program)
  addPing(program)
  addVerify(program)
  addDoctor(program)
  addDrift(program)
  addEvents(program)
  addBundle(program)
  addPlan(program)
  program.commandsGroup('Other:')
  addVersion(program)
  addCompletion(program)
  addComplete(program)
  program.addHelpCommand(new Command('help').argument('[command]').description('help with a command'))
  return program
}

// The text below the list of commands. The exit codes come from their table, so that the help cannot differ from it.
const HELP = `
Getting started:
  # In the first cluster, with meshd running
  meshctl init --cluster west --pod-cidr 10.1.0.0/16 --service-cidr 10.101.0.0/16
  meshctl invite east --pod-cidr 10.2.0.0/16 --service-cidr 10.102.0.0/16 > east.token

  # In the next cluster
  meshctl join --token-file east.token
  meshctl peers

Output: answers go to stdout, notes and errors to stderr. With --json, stdout has one JSON object (with --watch
one per line). After a failure stderr has one: {"apiVersion", "error": {"code", "message", "fix"}}.

Environment: RHIZOME_SOCKET (--socket), RHIZOME_TOKEN (join), NO_COLOR (--no-color).

Exit codes:
${EXIT_CODES.map(({ exit, meaning }) => `  ${String(exit).padStart(3)}  ${meaning}`).join('\n')}`
