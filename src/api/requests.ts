// What each request of the admin API carries, as schemas. meshd parses with them; meshctl takes only the types, because loading zod
// adds 100 ms to each run, and so to each completion in a shell.
import { z } from 'zod'

const strings = z.array(z.string().max(100)).max(64).readonly()

/** The schema of requests that carry nothing. A body or a query is ignored. */
export const NOTHING = z.object({}).readonly()

const SCHEMAS = {
  status: NOTHING,
  peers: NOTHING,
  services: NOTHING,
  routes: NOTHING,
  /** Without `name`, the answer lists the zones. */
  dns: z.object({ name: z.string().optional(), type: z.string().default('A') }).readonly(),
  plan: NOTHING,
  /** Empty lists: meshd finds the prefixes of the cluster, or chooses free ones. */
  init: z.strictObject({ cluster: z.string(), podCidrs: strings, serviceCidrs: strings }).readonly(),
  invite: z
    .strictObject({
      cluster: z.string(),
      podCidrs: strings,
      serviceCidrs: strings,
      ttlSeconds: z.number().int().min(1).max(31_622_400),
      /** Clusters whose agents the token names for the first contact; empty: this one and the others it knows. */
      bootstrap: strings
    })
    .readonly(),
  join: z.strictObject({ token: z.string().max(16 * 1024) }).readonly(),
  leave: NOTHING
}

/** What a handler of meshd gets, by the name of the endpoint. */
export type Requests = { readonly [Name in keyof typeof SCHEMAS]: z.output<(typeof SCHEMAS)[Name]> }

/** What meshctl sends, by the name of the endpoint. */
export type Sent = { readonly [Name in keyof typeof SCHEMAS]: z.input<(typeof SCHEMAS)[Name]> }

export const REQUESTS: { readonly [Name in keyof Requests]: z.ZodType<Requests[Name]> } = SCHEMAS

export type InitRequest = Requests['init']
export type InviteRequest = Requests['invite']
export type JoinRequest = Requests['join']
