// `meshctl cert renew` gives the gateways of this cluster certificates of the next generation. The request is
// POST /v1/cert/renew. Certificates have no end date: members count those of a cluster's two newest generations (S8 of
// docs/trust-set.md). The generation rises each 15 days by itself; this command raises it now.
import { Argument, type Command } from 'commander'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, print } from '../meshd/context.ts'

/** The flags of the command. */
interface Options {
  /** Without it meshd refuses a renewal by which another gateway of this cluster would be turned away. */
  readonly force?: boolean
}

/**
 * Adds the command `cert`. Errors of meshd: NOT_JOINED (exit code 4); GATEWAYS_BEHIND (exit code 6) while another gateway
 * of this cluster has not followed an earlier renewal.
 */
export function addCert(program: Command): void {
  const command = program
    .command('cert')
    .addArgument(
      new Argument('<action>', 'renew: make a certificate of the next generation').choices(['renew'])
    )
    .summary('renew the certificates of this cluster')
    .description(
      'Raises the generation of this cluster, and makes a certificate of it for this gateway. The other gateways of the ' +
        'cluster follow by themselves within seconds. Members accept the two newest generations. So a gateway that is ' +
        'gone, or a copy of its certificate, is refused after the second renewal: run the command twice to shut it out. ' +
        'A copy of a gateway that still runs is ended with `meshctl revoke <PeerId>`, and one that has the key of the ' +
        'cluster by a new key: `meshctl key rotate --cluster`. Traffic and connections are not affected. Each 15 days the ' +
        'generation rises by itself.'
    )
    .option('--force', 'also when another gateway of this cluster has not followed yet, and is turned away')
    .action(async (_action: string, options: Options) => {
      const context = contextOf(command)
      const answer = await context.client.request(ENDPOINTS.certRenew, {
        send: { force: options.force === true },
        field: 'generation',
        doing: 'renewing the certificate'
      })
      print(context, answer, ({ cluster, before, generation, neighbours }) => ({
        body: `The certificates of cluster ${cluster} are of generation ${generation} now (before: ${before}).`,
        note:
          neighbours === 0
            ? 'No member is connected now: they learn of it when one is.'
            : `A certificate of generation ${before} counts until the next renewal; older ones do not count any more.`
      }))
    })
  addExamples(command, [
    ['A new certificate for this gateway', 'meshctl cert renew'],
    [
      'A gateway was lost without `meshctl leave`: shut its certificate out',
      'meshctl cert renew && meshctl cert renew --force'
    ]
  ])
}
