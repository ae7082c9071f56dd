// The schemas of the requests of the admin API. meshd parses requests with them. meshctl imports only the types, because loading zod
// adds 100 ms to each run, and so to each completion in a shell.
import { z } from 'zod'

const strings = z.array(z.string().max(100)).max(64).readonly()

/** The schema of requests without fields. A body or a query is ignored. */
export const NOTHING = z.object({}).readonly()

const SCHEMAS = {
  status: NOTHING,
  peers: NOTHING,
  services: NOTHING,
  routes: NOTHING,
  /** A request without `name` asks for the list of zones. */
  dns: z.object({ name: z.string().optional(), type: z.string().default('A') }).readonly(),
  plan: NOTHING,
  /** If the lists are empty, meshd finds the prefixes of the cluster or chooses free ones. */
  init: z.strictObject({ cluster: z.string(), podCidrs: strings, serviceCidrs: strings }).readonly(),
  invite: z
    .strictObject({
      cluster: z.string(),
      podCidrs: strings,
      serviceCidrs: strings,
      ttlSeconds: z.number().int().min(1).max(31_622_400),
      /** The token names the agents of these clusters for the first contact; empty: this cluster and the others that it knows. */
      bootstrap: strings
    })
    .readonly(),
  join: z.strictObject({ token: z.string().max(16 * 1024) }).readonly(),
  leave: NOTHING
}

/** The parsed request that a handler of meshd gets, with defaults filled in, by the name of the endpoint. */
export type Requests = { readonly [Name in keyof typeof SCHEMAS]: z.output<(typeof SCHEMAS)[Name]> }

/** The request as meshctl sends it, by the name of the endpoint. */
export type Sent = { readonly [Name in keyof typeof SCHEMAS]: z.input<(typeof SCHEMAS)[Name]> }

/** The schema of each endpoint's request, by the name of the endpoint. */
export const REQUESTS: { readonly [Name in keyof Requests]: z.ZodType<Requests[Name]> } = SCHEMAS

export type InitRequest = Requests['init']
export type InviteRequest = Requests['invite']
export type JoinRequest = Requests['join']
