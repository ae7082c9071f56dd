// `meshctl revoke`: an administrator ends a cluster with what a thief of its key has admitted, or one agent. The request is
// POST /v1/trust/revoke. It signs a Bar with `keepOnly`, the admissions of that cluster that stand here. An admission that
// a thief backdates is not in the list and falls everywhere (rule S3). `meshctl remove` makes no such list: use it where no
// key was stolen, since a list may leave out a good cluster that this agent has not heard of yet.
import type { Command } from 'commander'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, print } from '../meshd/context.ts'
import { renderStatement } from '../meshd/statement.ts'

/**
 * Adds the command `revoke`. There is no --force as in `remove`, because a thief keeps the tunnel up. Errors of meshd:
 *   NO_SEAT, SEAT_EXCEEDED: no seat of this agent stands, or none covers the name of the cluster;
 *   UNKNOWN_CLUSTER, AMBIGUOUS_CLUSTER: no key, or more than one, bears the name;
 *   UNKNOWN_AGENT: no agent with this PeerId stands here;
 *   OWN_CLUSTER, OWN_AGENT: the name means the cluster of this agent, or this agent itself: run `meshctl leave`;
 *   NOT_JOINED: this agent is in no mesh (exit code 4).
 */
export function addRevoke(program: Command): void {
  const command = program
    .command('revoke')
    .summary('end a cluster whose key was stolen, or one agent')
    .description(
      'Ends a cluster whose key was stolen. Of the clusters that it has admitted only those stay that this agent knows ' +
        'now, so a thief of the key admits no more. With a PeerId it ends one agent: of the own cluster without a seat, of ' +
        'another one with the seat of an administrator.'
    )
    .argument('<name>', 'name of a cluster, or PeerId of an agent')
    .action(async (name: string) => {
      const context = contextOf(command)
      // meshd signs with the seat of this agent, and answers when the statement is on disk and on its way.
      const answer = await context.client.request(ENDPOINTS.revoke, {
        send: { name },
        field: 'done',
        doing: 'revoking'
      })
      print(context, answer, renderStatement)
    })
  addExamples(command, [
    ['A cluster', 'meshctl revoke east'],
    ['A stolen gateway of this cluster', 'meshctl revoke 12D3KooW…']
  ])
}
