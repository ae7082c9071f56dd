// The host edge without its balancing half, for tests of the other half.
import type { HostParts } from '../../../src/io/host/parts.ts'

export function noLoadBalancer(): HostParts {
  return {
    chooseLoadBalancer: async () => 'nftables',
    createLoadBalancer: (kind) => ({
      kind,
      start: async () => undefined,
      observe: async () => [],
      apply: async () => undefined,
      describe: () => [],
      cleanup: async () => undefined
    }),
    createFilter: () => ({
      observe: async () => undefined,
      set: async () => undefined,
      describe: () => [],
      cleanup: async () => undefined,
      dropped: async () => undefined
    })
  }
}
