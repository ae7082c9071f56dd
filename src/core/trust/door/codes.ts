// The codes of the door, their numbers on the wire, and what to do about each. A refusal is one sentence of reason and
// one of remedy, and reads the same on both sides: it says "the dialling agent", never "this agent".
import { printable, PRINTABLE_BYTES_MAX } from '../../model/printable.ts'
import { utf8 } from '../../model/bytes.ts'
import { wire } from '../../wire/messages.ts'

/** Why the door refused; the wire form is RejectCode in mesh.proto. */
export type HandshakeCode =
  /** The two agents have no protocol version in common. */
  | 'version'
  /** The two agents are of two meshes. */
  | 'mesh'
  /** What the peer shows is malformed, forged, or of another PeerId. */
  | 'certificate'
  /** The invite is over by a clock that the sponsor can rely on. */
  | 'expired'
  /** The invite is not valid yet by such a clock. */
  | 'notYet'
  /** The sponsor's own clock differs from those of its neighbours, so it admits no cluster. */
  | 'clock'
  /** Another cluster key was admitted by this invite. */
  | 'used'
  /** The invite, or its administrator, was taken back. */
  | 'cancelled'
  /** Another cluster has the name of the invite. */
  | 'nameTaken'
  /** Another cluster has a prefix that overlaps one of the invite. */
  | 'prefixOverlap'
  /** The networks of the hosts overlap a prefix of the invite. */
  | 'underlay'
  /** The administrator, the mesh or the sponsor admits no more clusters. */
  | 'quota'
  /** A bar names the cluster or the agent. */
  | 'barred'
  /** The cluster's admission, or what it stands on, was taken back. */
  | 'void'
  /** Another key has the cluster's place, or the agent's certificate is two generations old. */
  | 'replaced'
  /** The member that admitted the cluster is not known here. */
  | 'unknownSponsor'
  /** The signature over the two Hellos is not valid. */
  | 'proof'
  /** The peer has this agent's own PeerId: two agents run on one state. */
  | 'ownIdentity'
  /** The peer cannot answer now: it is no member yet, does not stand itself, or has too much to do. */
  | 'busy'
  /** One of the two agents is a node, and the other is no gateway of its cluster: nodes are leaves. */
  | 'leaf'
  /** The message is not the one that is due, or not decodable. */
  | 'protocol'
  /** The peer sent no code, or one that this version does not know. */
  | 'unspecified'

/** What a refusal says. */
export interface Rejection {
  readonly code: HandshakeCode
  /** Reason and remedy, at most PRINTABLE_BYTES_MAX bytes, safe to print. */
  readonly detail: string
}

/**
 * Codes of a member's refusal after which a newcomer tries the next member; the others are final for its token, or come
 * later. A newcomer that refused a member itself tries the next one in every case but `version` and `mesh`.
 */
export const RETRY_CODES: ReadonlySet<HandshakeCode> = new Set([
  'busy',
  'clock',
  'unknownSponsor',
  'proof',
  'protocol',
  'unspecified'
])

/** What to do about each code, as an instruction. */
export const REMEDIES: Readonly<Record<HandshakeCode, string>> = {
  version: 'upgrade the agent with the lower version',
  mesh: 'use a token of the mesh that the dialled agent is in',
  certificate:
    'restart meshd on the agent that showed it, which renews its certificate; a newcomer asks for a new token',
  expired: 'ask for a new token',
  notYet: 'join again when the invite is valid, or ask for a new token',
  clock: 'set the clock of the sponsor (`timedatectl`, NTP), or join through another member',
  used: 'ask for a new token; if the key of a cluster that joined is lost, an administrator gives its place away (`meshctl invite <cluster> --replace`)',
  cancelled: 'ask an administrator of the mesh for a new token',
  nameTaken:
    'ask for an invite with another name; if that cluster is gone, an administrator gives its place away (`meshctl invite <cluster> --replace`)',
  prefixOverlap:
    'ask for an invite with other prefixes; if the cluster really uses these, with --real-pod-cidr and --real-service-cidr, and join with --translate',
  underlay: 'ask for an invite with prefixes that no host uses',
  quota: 'ask for an invite of another administrator, or remove clusters that are gone',
  barred: 'ask an administrator to take the bar back (`meshctl restore`)',
  void: 'ask for a new invite, or for a decision (`meshctl decide`)',
  replaced: 'stop this agent; if it is the right one, restart it, or ask for a new invite',
  unknownSponsor: 'wait a minute and connect again, or connect to another member',
  proof: 'connect again without a relay between the two agents',
  ownIdentity: 'stop one of the two, remove its state folder and join again',
  busy: 'try another member, or try again in a minute',
  leaf: 'nothing is to be done: a node connects to the gateways of its own cluster',
  protocol: 'run the same version on both agents',
  unspecified: 'read the log of the agent that refused'
}

/** A refusal with its remedy. A reason that is too long is cut, and the remedy never. */
export function rejection(code: HandshakeCode, reason: string, remedy = REMEDIES[code]): Rejection {
  const end = `; ${remedy}`
  return { code, detail: `${printable(reason, PRINTABLE_BYTES_MAX - utf8(end).length)}${end}` }
}

/** The number of each code. */
export const NUMBER_OF_CODE = {
  unspecified: wire.RejectCode.REJECT_UNSPECIFIED,
  version: wire.RejectCode.VERSION,
  mesh: wire.RejectCode.MESH,
  certificate: wire.RejectCode.CERTIFICATE,
  expired: wire.RejectCode.EXPIRED,
  notYet: wire.RejectCode.NOT_YET,
  clock: wire.RejectCode.CLOCK,
  used: wire.RejectCode.USED,
  cancelled: wire.RejectCode.CANCELLED,
  nameTaken: wire.RejectCode.NAME_TAKEN,
  prefixOverlap: wire.RejectCode.PREFIX_OVERLAP,
  underlay: wire.RejectCode.UNDERLAY,
  quota: wire.RejectCode.QUOTA,
  barred: wire.RejectCode.BARRED,
  void: wire.RejectCode.VOID,
  replaced: wire.RejectCode.REPLACED,
  unknownSponsor: wire.RejectCode.UNKNOWN_SPONSOR,
  proof: wire.RejectCode.PROOF,
  ownIdentity: wire.RejectCode.OWN_IDENTITY,
  busy: wire.RejectCode.BUSY,
  protocol: wire.RejectCode.PROTOCOL,
  leaf: wire.RejectCode.LEAF
} as const satisfies Readonly<Record<HandshakeCode, number>>

/** The code of a number; `unspecified` for one that this version does not know. */
export function codeOfNumber(number: number): HandshakeCode {
  return CODES.get(number) ?? 'unspecified'
}

const CODES = new Map<number, HandshakeCode>(
  Object.entries(NUMBER_OF_CODE).map(([code, number]) => [number, code as HandshakeCode])
)
