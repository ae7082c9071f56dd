// `meshctl restore`: an administrator takes back the bars of a cluster, or of one agent. The request is POST /v1/trust/restore.
// It signs a Void for each Bar of the cluster that has effect here. The Bars stay in the set, as every statement does, and
// no longer count. Nothing is to be done at the cluster: it still has its key, and connects again by itself.
import type { Command } from 'commander'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, print } from '../meshd/context.ts'
import { renderStatement } from '../meshd/statement.ts'

/**
 * Adds the command `restore`. Errors of meshd: NO_SEAT and SEAT_EXCEEDED when no seat of this agent stands or covers the name;
 * UNKNOWN_CLUSTER; AMBIGUOUS_CLUSTER when several keys of the name were ended, and --key is not given; NOT_BARRED when no Bar ends the cluster, for example
 * because it fell for another reason, which `meshctl trust status` shows; NOT_JOINED (exit code 4).
 */
export function addRestore(program: Command): void {
  const command = program
    .command('restore')
    .summary('take a remove or revoke of a cluster or an agent back')
    .description(
      'Takes back what `meshctl remove` or `meshctl revoke` did to a cluster. The cluster comes back with its old key, if it ' +
        'still has it, and with its name and prefixes, if no other cluster has them now. With a PeerId it brings one agent back. Where no seat of this agent has the right, the root keys sign, if `meshctl root import` has taken them here. A cluster that has lost its disk ' +
        'comes back with `meshctl backup restore`.'
    )
    .argument('<name>', 'name of the cluster, or PeerId of the agent')
    .option(
      '--key <digits>',
      'first 8 or more digits of the cluster’s key, for a name that several keys have borne'
    )
    .action(async (cluster: string, { key }: { readonly key?: string }) => {
      const context = contextOf(command)
      // meshd signs with a seat of this agent, or with the root keys, and answers when the statement is on disk and on its way.
      const answer = await context.client.request(ENDPOINTS.restore, {
        send: { cluster, ...(key === undefined ? {} : { key: key.toLowerCase() }) },
        field: 'done',
        doing: 'taking the bar back'
      })
      print(context, answer, renderStatement)
    })
  addExamples(command, [
    ['A cluster that was removed by mistake', 'meshctl restore east'],
    ['A gateway that was revoked by mistake', 'meshctl restore 12D3KooW…']
  ])
}
