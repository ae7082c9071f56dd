// A load balancer that keeps its virtual servers in the tool `toylb`.
import type { VirtualServer } from '../../../src/core/host/host-state.ts'
import { compareVirtualServers } from '../../../src/io/host/load-balancer/order.ts'
import type { LoadBalancer, PartContext, VirtualServerChange } from '../../../src/io/host/ports.ts'

export function createToyLoadBalancer({ run, names }: PartContext): LoadBalancer {
  const owner = names.nftTable

  async function observe(signal: AbortSignal): Promise<readonly VirtualServer[]> {
    const { stdout } = await run('toylb', ['list', owner], { signal })
    // A real one parses what its tool prints: see ipvs/listing.ts.
    const servers: readonly VirtualServer[] = JSON.parse(stdout)
    return servers.toSorted(compareVirtualServers)
  }

  async function apply(changes: readonly VirtualServerChange[], signal: AbortSignal): Promise<void> {
    const lines = changes.flatMap(linesOf)
    if (lines.length > 0) await run('toylb', ['apply', owner], { signal, stdin: lines.join('\n') })
  }

  return {
    kind: 'toy',
    async start() {
      await run('toylb', ['--version'])
    },
    observe,
    apply,
    describe: (change) => linesOf(change).map((line) => `toylb apply ${owner} <<< '${line}'`),
    async cleanup(signal) {
      const servers = await observe(signal)
      await apply(
        servers.map((have) => ({ want: undefined, have })),
        signal
      )
    }
  }
}

/** What `toylb apply` reads for a change; nothing where the server is as desired. */
function linesOf({ want, have }: VirtualServerChange): readonly string[] {
  if (want !== undefined)
    return JSON.stringify(want) === JSON.stringify(have) ? [] : [`set ${JSON.stringify(want)}`]
  return have === undefined ? [] : [`remove ${have.protocol} ${have.vip} ${have.port}`]
}
