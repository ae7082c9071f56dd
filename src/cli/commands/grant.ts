// `meshctl grant`: an administrator changes the prefixes of a cluster. The request is POST /v1/trust/grant. It signs a Grant.
// A cluster has the prefixes of its invite and of its Grants, without every one that lies in a dropped prefix (rule S7).
// Nothing restarts: each member computes the routes anew when the statement arrives.
import type { Command } from 'commander'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { collect, parsePrefix } from '../meshd/arguments.ts'
import { addExamples, contextOf, print } from '../meshd/context.ts'
import { renderStatement } from '../meshd/statement.ts'

/** The flags of the command. At least one is needed; each may be repeated. Prefixes are in CIDR form, IPv4 or IPv6. */
interface Options {
  readonly addPodCidr?: readonly string[]
  readonly addServiceCidr?: readonly string[]
  /** Pod and service prefixes alike: one that lies in one of these is dropped, also when an earlier Grant added it. */
  readonly drop?: readonly string[]
}

/**
 * Adds the command `grant`. Errors of meshd: NO_SEAT when no seat of this agent stands; SEAT_EXCEEDED when none covers the
 * name of the cluster; UNKNOWN_CLUSTER; AMBIGUOUS_CLUSTER when several keys bear the name (run `meshctl decide` first);
 * BAD_ARGUMENT when there is nothing to change, or when a prefix exceeds the rights of the seat; NOT_JOINED (exit code 4).
 * That another cluster has a prefix is no error: that cluster keeps it in force, and the new claim shows as contested.
 */
export function addGrant(program: Command): void {
  const command = program
    .command('grant')
    .summary('give a cluster more prefixes, or take some away')
    .description(
      'Adds prefixes to a cluster, or drops every prefix of it that lies in a given one. To move a cluster to other ' +
        'prefixes: add the new ones, move its pods, then drop the old ones. A prefix that another cluster has in force ' +
        'is contested and not used until it is dropped there.'
    )
    .argument('<cluster>', 'name of the cluster')
    .option(
      '--add-pod-cidr <prefix>',
      'pod prefix to add; repeat the flag or use commas',
      collect('--add-pod-cidr', parsePrefix)
    )
    .option(
      '--add-service-cidr <prefix>',
      'service prefix to add; given like the pod prefix',
      collect('--add-service-cidr', parsePrefix)
    )
    .option('--drop <prefix>', 'drop each prefix that lies in this one', collect('--drop', parsePrefix))
    .action(async (cluster: string, options: Options) => {
      const context = contextOf(command)
      // meshd signs with the seat of this agent, and answers when the statement is on disk and on its way.
      const answer = await context.client.request(ENDPOINTS.grant, {
        send: {
          cluster,
          addPodCidrs: options.addPodCidr ?? [],
          addServiceCidrs: options.addServiceCidr ?? [],
          dropCidrs: options.drop ?? []
        },
        field: 'done',
        doing: 'changing the prefixes'
      })
      print(context, answer, renderStatement)
    })
  addExamples(command, [
    ['One more pod prefix', 'meshctl grant east --add-pod-cidr 10.12.0.0/16'],
    ['Without the old one', 'meshctl grant east --drop 10.2.0.0/16']
  ])
}
