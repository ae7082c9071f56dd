// The trust set of one agent for the tests of its parts, over a store in memory.
import pino from 'pino'
import { MeshTrust } from '../../../src/app/control/mesh-trust.ts'
import type { Origin } from '../../../src/core/model/values.ts'
import type { Store, StoredStatement } from '../../../src/io/store/store.ts'
import type { Thing, World } from '../../core/trust/set/world.ts'

export const SILENT = pino({ enabled: false })

/** A store of trust in memory. */
export function memoryStore(items: readonly Thing[] = []) {
  const disk = new Map<string, Uint8Array>()
  const state = { isFull: false, writes: 0 }
  const write = async (act: () => void): Promise<void> => {
    await Promise.resolve()
    if (state.isFull) throw new Error('the disk is full')
    state.writes++
    act()
  }
  const store: Pick<Store, 'loadTrust' | 'saveTrust' | 'removeTrust' | 'saveOwners' | 'saveGenerations'> = {
    loadTrust: () => ({
      items: items.map(({ item }) => item),
      owners: new Map(),
      generations: new Map()
    }),
    saveTrust: (statements: readonly StoredStatement[]) =>
      write(() => {
        for (const { id, item } of statements) disk.set(id, item)
      }),
    removeTrust: (ids) =>
      write(() => {
        for (const id of ids) disk.delete(id)
      }),
    saveOwners: () => write(() => undefined),
    saveGenerations: () => write(() => undefined)
  }
  return { store, disk, state }
}

/** The trust set of an agent that holds these things, and what it has sent, on the disk as it was then. */
export function trustOf(world: World, items: readonly Thing[] = []) {
  const memory = memoryStore(items)
  const sent: { readonly to: Origin; readonly frame: Uint8Array; readonly onDisk: readonly string[] }[] = []
  const offences: string[] = []
  const inStep: Origin[] = []
  const trust = new MeshTrust({
    crypto: world.crypto,
    roots: world.roots,
    store: memory.store,
    log: SILENT,
    send: (to, frame) => void sent.push({ to, frame, onDisk: [...memory.disk.keys()] }),
    onInStep: (peer) => void inStep.push(peer),
    onOffence: (_peer, reason) => void offences.push(reason),
    onRefused: () => undefined
  })
  return { ...memory, trust, sent, offences, inStep }
}
