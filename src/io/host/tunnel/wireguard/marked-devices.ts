// WireGuard devices of other names that an agent has set up. A cleanup removes the device of its setting only: another one
// may belong to an agent that runs.
import type { HostNames, Run } from '../../ports.ts'
import { findLink } from '../../tools/ip.ts'

/**
 * Returns the WireGuard devices of this network namespace but our own whose packets carry our mark, so that an agent has
 * made them. `wg show all` also lists devices of wireguard-go in other network namespaces, which are left out. Errors:
 * HostError.
 */
export async function markedDevices(
  run: Run,
  { device, fwmark }: Pick<HostNames, 'device' | 'fwmark'>,
  signal: AbortSignal
): Promise<readonly string[]> {
  const { stdout } = await run('wg', ['show', 'all', 'fwmark'], { signal, okCodes: [1] })
  const marked = stdout
    .split('\n')
    .map((line) => line.split('\t'))
    .filter(([name, mark]) => name !== device && Number(mark) === fwmark)
    .flatMap(([name = '']) => name)
  const links = await Promise.all(marked.map((name) => findLink(run, name, signal)))
  return marked.filter((_, index) => links[index] !== undefined)
}
