// The world of the NAT scenarios: two sites behind routers and an open member that both reach, and what is expected of a pair.
// The kind of a site is changed by its routers' rules while the agents run.
import type { Site } from '../demo/site.ts'
import { NatSite, type NatKind } from '../lab/support/nat.ts'
import { onPath, raise, reaches, unite } from './harness.ts'

/** Two kinds of sites, and the path of the tunnel between them. */
export type Cell = readonly [left: NatKind, right: NatKind, path: 'direct' | 'relay:edge']

/** Raises the world before the suite: both sites behind an independent NAT, joined with a token each. */
export function natWorld(label: string, ...flags: readonly string[]) {
  const { site, world } = raise(label, ['west', 'east', 'edge'], { start: false })
  const [west, east, edge] = [() => site('west'), () => site('east'), () => site('edge')]
  let nats: readonly NatSite[] = []
  const seconds: number[] = []

  before(async () => {
    const [left, right] = [await NatSite.raise(world(), west(), 1), await NatSite.raise(world(), east(), 2)]
    nats = [left, right]
    await edge().gateway.exec(['ip', 'address', 'add', '2001:db8:113::13/64', 'dev', 'wan0', 'nodad'])
    for (const nat of nats) await nat.tell(edge().gateway)
    await Promise.all([left.tell(right), right.tell(left), behind('independent', 'independent')])
    await Promise.all([west().start(), east().start(), edge().start(...flags)])
    await unite(edge(), west(), east())
  })
  after(() => {
    const median = seconds.toSorted((a, b) => a - b)[Math.floor(seconds.length / 2)]
    process.stderr.write(`    first answer: median of ${seconds.length} cells ${median?.toFixed(1)} s\n`)
  })

  /** Changes what the sites are behind. */
  const behind = async (left: NatKind, right: NatKind): Promise<void> => {
    await Promise.all([nats[0]?.become(left), nats[1]?.become(right)])
  }

  /** West and east reach each other, by this path in the end. The seconds to the first answer are printed. */
  const expect = async (path: string, what: string): Promise<void> => {
    const startMs = performance.now()
    const since = () => (performance.now() - startMs) / 1000
    await reaches(west(), east(), 120_000)
    const first = since()
    seconds.push(first)
    await onPath(path, west(), east())
    await reaches(east(), west())
    process.stderr.write(`    ${what}: ${first.toFixed(1)} s; by ${path} after ${since().toFixed(1)} s\n`)
  }

  const reachesEdge = async (at: Site, kind: NatKind): Promise<void> => {
    await reaches(at, edge())
    await onPath(kind === 'noUdp' ? 'tcp' : 'direct', at, edge())
  }

  /** A test for each cell: the sites reach each other by its path, and the open member. */
  const test = (cells: readonly Cell[]): void => {
    for (const [left, right, path] of cells)
      it(`${left} × ${right}: ${path}`, async () => {
        await behind(left, right)
        await expect(path, `${left} × ${right}`)
        await reachesEdge(west(), left)
        await reachesEdge(east(), right)
      })
  }
  return { west, east, edge, behind, expect, test }
}
