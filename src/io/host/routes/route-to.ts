// Asks the kernel where it would send a packet of this host, by all rules and tables, those of other programs included
// (ip-route(8), "ip route get").
import * as z from 'zod'
import type { Ip } from '../../../core/model/values.ts'
import { parseOutput } from '../errors.ts'
import type { Run } from '../ports.ts'

/** `none`: the kernel refuses the packet; `text` is what it says. `local`: the address is one of this host. */
export type KernelRoute =
  | { readonly kind: 'device' | 'local'; readonly device: string }
  | { readonly kind: 'none'; readonly text: string }

const FOUND = z.array(z.object({ dev: z.string(), type: z.string().optional() })).min(1)

/** Errors: HostError of `ip`. */
export async function routeTo(run: Run, ip: Ip, signal: AbortSignal): Promise<KernelRoute> {
  const { exitCode, stdout, stderr } = await run('ip', ['-j', 'route', 'get', ip], {
    signal,
    okCodes: [1, 2]
  })
  if (exitCode !== 0) return { kind: 'none', text: stderr.replace(/^RTNETLINK answers: /, '').trim() }
  const [found] = parseOutput('ip', () => FOUND.parse(JSON.parse(stdout)))
  return { kind: found?.type === 'local' ? 'local' : 'device', device: found?.dev ?? '' }
}
