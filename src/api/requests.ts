// The schemas of the requests of the admin API. meshd parses requests with them and answers 400 BAD_REQUEST when a
// request does not fit. meshctl imports only the types, because loading zod adds 100 ms to each run, and so to each
// completion in a shell; test/arch checks this. The limits bound memory. Names and prefixes are checked by the
// handlers, which can name the fix.
import * as z from 'zod'

// At most 64 texts of at most 100 characters. The longest value is a cluster name (63) or an IPv6 prefix (43
// characters).
const strings = z.array(z.string().max(100)).max(64).readonly()

/**
 * The schema of requests without fields. meshd compares by identity with it, and then does not read a body or a query.
 */
export const NOTHING = z.object({}).readonly()

const name = z.string().min(1).max(100)
/** Hexadecimal digits. */
const hex = (min: number, max: number) =>
  z
    .string()
    .regex(
      new RegExp(`^[0-9a-f]{${min},${max}}$`),
      `write it as ${min === max ? min : `${min} to ${max}`} hexadecimal digits in lower case`
    )
/** The file of `meshctl root export`, and its passphrase. */
const rootFields = { file: z.string().max(32 * 1024), passphrase: z.string().max(1024) }
/** Root keys of one mesh (docs/trust-set.md). */
const ROOTS_MAX = 5
/** The number of a root key, from 1, in the order of the sorted public keys. */
const share = z.number().int().min(1).max(ROOTS_MAX).optional()
/** Bytes of the file of `meshctl backup create`; meshctl refuses to read more, and meshd to make more. */
export const BACKUP_BYTES_MAX = 64 * 1024 * 1024

/**
 * The prefixes that a cluster really uses where others stand for them in the mesh. `translate`: those that the Kubernetes API
 * reports.
 */
const realFields = {
  realPodCidrs: strings.optional(),
  realServiceCidrs: strings.optional(),
  translate: z.boolean().optional()
}

const SCHEMAS = {
  status: NOTHING,
  peers: NOTHING,
  services: NOTHING,
  routes: NOTHING,
  /** A request without `name` asks for the list of zones. */
  dns: z.object({ name: z.string().optional(), type: z.string().default('A') }).readonly(),
  /**
   * `target`: a name or an address, with a port where it matters. `from`: the address of the pod that connects; left out:
   * this host does. `connect`: whether a TCP connection is tried.
   */
  why: z
    .object({
      target: z.string().max(2000),
      from: z.string().max(100).optional(),
      connect: z.enum(['yes', 'no']).default('yes')
    })
    .readonly(),
  /** `cluster`: the name of another cluster. A query has texts, so the numbers are converted. */
  ping: z
    .object({
      cluster: z.string().max(100),
      count: z.coerce.number<number>().int().min(1).max(100).default(5),
      intervalMs: z.coerce.number<number>().int().min(50).max(5000).default(200)
    })
    .readonly(),
  /** `check`: this check only, which needs a mesh; left out: all. */
  doctor: z.object({ check: z.literal('drift').optional() }).readonly(),
  events: NOTHING,
  plan: NOTHING,
  /** If the lists are empty, meshd finds the prefixes of the cluster or chooses free ones. */
  init: z
    .strictObject({
      cluster: z.string(),
      podCidrs: strings,
      serviceCidrs: strings,
      ...realFields,
      /** `k` of `number` root keys must sign; left out: one of one. */
      roots: z
        .strictObject({
          k: z.number().int().min(1).max(ROOTS_MAX),
          number: z.number().int().min(1).max(ROOTS_MAX)
        })
        .optional()
    })
    .readonly(),
  invite: z
    .strictObject({
      cluster: z.string(),
      podCidrs: strings,
      serviceCidrs: strings,
      /** Prefixes that the cluster really uses: those that are chosen here have the same lengths. */
      realPodCidrs: strings.optional(),
      realServiceCidrs: strings.optional(),
      /** The validity of the token, from now, in seconds: from 1 s to 366 days. */
      ttlSeconds: z.number().int().min(1).max(31_622_400),
      /**
       * Names of clusters. The token names agents of these clusters for the first contact; empty: agents of this
       * cluster and of the others that it knows.
       */
      bootstrap: strings,
      /** Names of the namespaces that the cluster may export; empty: all, or those of the cluster that it replaces. */
      namespaces: strings.default([]),
      /** The name of a standing cluster, whose place the invited one takes: its key is out when the token is used. */
      replace: name.optional(),
      /** With `replace`: also when the tunnel to that cluster answers. */
      force: z.boolean().default(false)
    })
    .readonly(),
  /** A token for one more gateway of the own cluster; `ttlSeconds` as for `invite`. */
  inviteGateway: z.strictObject({ ttlSeconds: z.number().int().min(1).max(31_622_400) }).readonly(),
  /** Takes back the open invites of gateways that this agent has made. */
  cancelGateways: z.strictObject({}).readonly(),
  /** The text that `invite` returned. A token has about 2 KiB; meshctl, too, refuses more than 32 KiB. */
  join: z.strictObject({ token: z.string().max(32 * 1024), ...realFields }).readonly(),
  /** `force`: also when this agent holds the only seat, and the root keys are in no file. */
  leave: z.strictObject({ force: z.boolean().default(false) }).readonly(),
  backupCreate: z.strictObject({ passphrase: z.string().max(1024) }).readonly(),
  backupRestore: z
    .strictObject({ file: z.string().max(BACKUP_BYTES_MAX), passphrase: z.string().max(1024) })
    .readonly(),
  trust: NOTHING,
  /** `force`: also when the tunnel to the cluster answers. */
  remove: z.strictObject({ cluster: name, force: z.boolean().default(false) }).readonly(),
  /** The name of a cluster, or the PeerId of an agent. */
  revoke: z.strictObject({ name }).readonly(),
  /** The name of a cluster, or the PeerId of an agent. `key`: the beginning of the cluster's key, where several bore the name. */
  restore: z.strictObject({ cluster: name, key: hex(8, 64).optional() }).readonly(),
  /** `key`: the key of a cluster, or its beginning, in hexadecimal digits. */
  decide: z.strictObject({ name, key: hex(8, 64) }).readonly(),
  grant: z
    .strictObject({ cluster: name, addPodCidrs: strings, addServiceCidrs: strings, dropCidrs: strings })
    .readonly(),
  /** Takes back the open invites of a cluster. */
  cancel: z.strictObject({ cluster: name }).readonly(),
  adminKey: z.strictObject({}).readonly(),
  adminAdd: z
    .strictObject({
      /** The administrator's public key, 64 hexadecimal digits. */
      key: hex(64, 64),
      label: z.string().min(1).max(64),
      /** Cluster names; a last "*" stands for any ending. */
      names: strings.default(['*']),
      prefixes: strings.default(['0.0.0.0/0', '::/0']),
      inviteDays: z.number().int().min(1).max(366).default(30),
      clusters: z.number().int().min(1).max(2048).default(2048),
      maySeat: z.boolean().default(false),
      /** Under the roots and under no seat of this agent, which must hold enough root keys. */
      root: z.boolean().optional()
    })
    .readonly(),
  /** `seat`: a label, or the beginning of an id. `force`: also the last seat for all names and prefixes. */
  adminRemove: z.strictObject({ seat: name, force: z.boolean().default(false) }).readonly(),
  /** `share`: this root key only; left out: all that are here. */
  rootExport: z.strictObject({ passphrase: z.string().max(1024), share }).readonly(),
  /** `keep`: the keys stay on this agent, too; a single share always does. */
  rootExported: z.strictObject({ ...rootFields, share, keep: z.boolean().default(false) }).readonly(),
  rootImport: z.strictObject(rootFields).readonly(),
  /** `force`: also when fewer than all root keys of this agent are in files, but as many as must sign. */
  rootForget: z.strictObject({ force: z.boolean().default(false) }).readonly(),
  support: NOTHING,
  handOver: NOTHING,
  /** `force`: also when no other gateway of the cluster lives. */
  drain: z.strictObject({ force: z.boolean().default(false) }).readonly(),
  undrain: z.strictObject({}).readonly(),
  keyRotate: NOTHING,
  /**
   * `token`: of `meshctl invite <cluster> --replace`; left out: a seat of this agent signs the invite. `keep`: PeerIds of
   * gateways of a site without Kubernetes that may ask for the new key. `force`: also when others fall by it.
   */
  clusterKeyRotate: z
    .strictObject({
      token: z
        .string()
        .max(32 * 1024)
        .optional(),
      keep: strings.default([]),
      force: z.boolean().default(false)
    })
    .readonly(),
  /** `force`: also when another gateway of this cluster is turned away by it. */
  certRenew: z.strictObject({ force: z.boolean().default(false) }).readonly()
}

/** The parsed request that a handler of meshd gets, with defaults filled in, by the name of the endpoint. */
export type Requests = { readonly [Name in keyof typeof SCHEMAS]: z.output<(typeof SCHEMAS)[Name]> }

/** The request as meshctl sends it, by the name of the endpoint. */
export type Sent = { readonly [Name in keyof typeof SCHEMAS]: z.input<(typeof SCHEMAS)[Name]> }

/** The schema of each endpoint's request, by the name of the endpoint. Only meshd uses it (app/admin/server.ts). */
export const REQUESTS: { readonly [Name in keyof Requests]: z.ZodType<Requests[Name]> } = SCHEMAS

/** The requests that have a name outside of the table. */
export type InitRequest = Requests['init']
export type InviteRequest = Requests['invite']
export type JoinRequest = Requests['join']
export type GrantRequest = Requests['grant']
export type AdminAddRequest = Requests['adminAdd']
