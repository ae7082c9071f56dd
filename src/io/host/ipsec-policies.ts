// Finds IPsec policies (xfrm) of other programs that take packets of the mesh. The kernel asks them after the route, also
// for packets into the tunnel, and `ip route get` does not show them.
import { cidrContains, familyOf } from '../../core/model/cidr.ts'
import { prefixOf } from '../../core/host/firewall.ts'
import type { Ip } from '../../core/model/values.ts'
import type { Run } from './ports.ts'

/** Output beyond this many policies is not read. */
const POLICIES_MAX = 10_000

/**
 * Returns the policies that block or transform packets from this host or its pods to other clusters, one for each cluster.
 * Never rejects: a host without IPsec in its kernel has no policies.
 */
export async function takenByPolicy(
  run: Run,
  {
    far,
    pod
  }: {
    readonly far: readonly { readonly cluster: string; readonly ip: Ip }[]
    readonly pod: { readonly ip: Ip } | undefined
  },
  signal: AbortSignal
): Promise<readonly Taken[]> {
  if (far.length === 0) return []
  const text = await run('ip', ['xfrm', 'policy', 'show'], { signal }).then(
    ({ stdout }) => stdout,
    () => ''
  )
  const policies = policiesOf(text)
  const found = new Map<string, Taken>()
  for (const { cluster, ip } of far) {
    const source = pod !== undefined && familyOf(pod.ip) === familyOf(ip) ? pod.ip : undefined
    const policy = policies.find((one) => takes(one, ip, source))
    if (policy !== undefined && !found.has(cluster)) found.set(cluster, { cluster, by: policy.text })
  }
  return [...found.values()]
}

/** A cluster whose packets a policy takes, and the policy as text for people. */
interface Taken {
  readonly cluster: string
  readonly by: string
}

interface Policy {
  readonly src: string
  readonly dst: string
  readonly text: string
}

/** The policies for packets that leave, without those that let packets pass as they are. */
function policiesOf(text: string): readonly Policy[] {
  // A policy is a line "src … dst …" and indented lines.
  return text
    .split(/^(?=src )/m)
    .slice(0, POLICIES_MAX)
    .flatMap((block) => {
      const [, src, dst] = /^src (\S+) dst (\S+)/.exec(block) ?? []
      if (src === undefined || dst === undefined || !/^\s+dir out\b/m.test(block)) return []
      const isBlock = /\baction block\b/.test(block)
      if (!isBlock && !/^\s+tmpl /m.test(block)) return []
      return [{ src, dst, text: `src ${src} dst ${dst} dir out${isBlock ? ' action block' : ''}` }]
    })
}

/** `source` undefined: not known, so only a policy for all sources is certain to take the packet. */
function takes({ src, dst }: Policy, ip: Ip, source: Ip | undefined): boolean {
  const [from, to] = [prefixOf(src), prefixOf(dst)]
  if (from === undefined || to === undefined || !cidrContains(to, ip)) return false
  return source === undefined ? from.endsWith('/0') : cidrContains(from, source)
}
