// `meshctl remove`: an administrator ends a cluster, for example one whose disk has burnt down. The request is
// POST /v1/trust/remove. It signs a Bar of the cluster's key (rule S5). Each member that gets the Bar ends the connections
// to that cluster with its next tick, and takes its routes and names away.
import type { Command } from 'commander'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, print } from '../meshd/context.ts'
import { renderStatement } from '../meshd/statement.ts'

/** The flags of the command. */
interface Options {
  /** Without it meshd refuses a cluster that is in use: a typing error in a name must not take it out of the mesh. */
  readonly force?: boolean
}

/**
 * Adds the command `remove`. Errors of meshd: NO_SEAT and SEAT_EXCEEDED when no seat of this agent stands or covers the name;
 * UNKNOWN_CLUSTER; AMBIGUOUS_CLUSTER when several keys bear the name; OWN_CLUSTER, which leaves with `meshctl leave`;
 * STILL_ALIVE when a tunnel of this host to the cluster is up; NOT_JOINED (exit code 4).
 */
export function addRemove(program: Command): void {
  const command = program
    .command('remove')
    .summary('end a cluster: its name and prefixes become free')
    .description(
      'Ends a cluster that is gone or no longer wanted. All members drop its packets, its name and prefixes are free, and a ' +
        'new cluster can be invited under them. The clusters that it has admitted stay. It wants --force while the ' +
        'tunnel to the cluster answers, which it also does after the agent has ended, as long as that host is on. `meshctl restore` takes it back. This agent needs the seat of an administrator.'
    )
    .argument('<cluster>', 'name of the cluster')
    .option('--force', 'also when the tunnel to the cluster answers')
    .action(async (cluster: string, options: Options) => {
      const context = contextOf(command)
      // meshd signs with the seat of this agent, and answers when the statement is on disk and on its way.
      const answer = await context.client.request(ENDPOINTS.remove, {
        send: { cluster, force: options.force === true },
        field: 'done',
        doing: 'ending the cluster'
      })
      print(context, answer, renderStatement)
    })
  addExamples(command, [
    ['A cluster whose disk burnt down', 'meshctl remove east'],
    ['A hostile one, or one whose agent is gone while its host is on', 'meshctl remove east --force']
  ])
}
