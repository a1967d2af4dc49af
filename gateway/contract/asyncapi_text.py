"""What the published document says in sentences: the rules that no schema can express. Markdown; figures come from the code."""

from string import Template

from gateway.contract import examples, strict_json
from gateway.contract.downlinks import DOMAIN_TAG, MAX_RECORDS_PER_CHUNK, MAX_SHOPPERS, RECORD_BYTES
from gateway.contract.messages import CONTENT_TYPE
from gateway.contract.settings import Broker, CentralSettings, Storage

_DESCRIPTION = Template("""\
What crosses the MQTT broker between the gateways in a shop, the central service that grants their offers, the
shopper's app, and the tills, web shop and CRM that tell central what they know. It is enough to write a central
service; what the app puts on the air is told in [the shopper's app](app-developer.md). This file is generated from the
code of the gateway and compared with it by its tests.

## How to read it

The document describes the gateway: an operation tagged `gateway` has action `send` for what the gateway sends and
`receive` for what it receives. Operations tagged `central` or `app` are those of the other two, each from its own point
of view.

## Messages

Every message is a CloudEvent 1.0 in structured JSON (`$content_type`), UTF-8. Producers write every attribute marked as
required.

- An attribute or key that is not in its schema makes the message invalid, CloudEvents extensions included. What is
  absent is left out, never `null`.
- At most $max_bytes bytes, at most $max_depth objects and arrays deep, no key twice in one object, no `NaN`, `Infinity`
  or lone surrogates. This holds for what is inside `data_base64`, too.
- Times are RFC 3339 with a zone (`Z` or an offset).
- What is invalid has no effect: the gateway notes it in its log and keeps what was in force. Nobody answers it.
- A GTIN (8, 12, 13 or 14 digits) has the check digit of GS1 as its last, and is invalid with another.
- A type ends with its version; a change that old readers would misread is a new type. Keep and acknowledge an event
  whose type you do not know like any other, or everything behind it stays unacknowledged and comes again and again.

## MQTT

QoS 1, except telemetry and sightings (QoS 0, may be lost). Retained are only the channels whose send operations say so; an empty
retained message takes one away and says nothing else. Nobody decides anything by the retain flag of a message.

The same contract holds on MQTT 5 and 3.1.1. On MQTT 5 the properties mirror the payload: content type; correlation
data, the bytes of `id`; message expiry, the seconds until `expirytime` rounded up (for a roster until its `not_after`).
There are no user properties. Whoever reads only the payload misses nothing: on 3.1.1 the broker keeps what has expired,
so readers compare `expirytime` and `not_after` with their own clocks. MQTT 3.1.1 also answers a publication that the
broker's access rules forbid as if it were delivered; MQTT 5 answers with a reason code of 0x80 or above.

Keep a persistent session under a client identifier of your own (MQTT 5: clean start off and a session expiry; 3.1.1:
clean session off), so that the broker holds what comes while you are away. Gateways do, as `gw-{store}-{gateway}`. A
broker's access rules should let a gateway write below `stores/{store}/up/{gateway}/` alone, and read its store's
catalogue, roster and contexts (`stores/{store}/down/catalogue`, `…/roster/#`, `…/shopper/#`), what is for itself
(`stores/{store}/down/{gateway}/#`), `central/state` and, of the other gateways of its store, `status` and `sighting`;
central read of what gateways send all but `sighting`; an app read its own inbox's `offer` and write its `receipt` and
`wish`; each till, web shop and CRM write only what is its own; whoever shows the staff its messages read
`stores/{store}/staff`; and only central write what central sends.

A connection names its account by user name and password, or by a client certificate, as the broker wants it.

## Central, step by step

1. Connect with a will on `central/state`: `offline`, retained. Subscribe to `status` and `event` of your stores, to
   the apps' `receipt` and `wish`, and to what tills, web shop and CRM tell. Then publish `central.state.v1`, `online`,
   retained, with an `instance` that is new with every start of the service. Until a gateway has read this on its present
   connection it keeps its events and sends none.
2. Publish catalogue and rosters, signed and retained; again after every reconnection, because a broker may have lost
   them.
3. At a gateway's birth (`gateway.status.v1`, `online`) begin with the numbers of its epoch at `oldest_seq` (see
   Delivery), acknowledge, and say again the decisions whose deadline has not passed and the contexts of the shoppers who
   are in the store. Every status, the will too, tells
   who decides in the store (see Several gateways).
4. At every event: store it once, acknowledge, answer what is a proposal.
5. At a receipt: stop sending that offer.

## Delivery

An event's key is (store, gateway, `epoch`, `seq`); store and gateway are those of the topic. Numbers begin with 1 in
each epoch, and an epoch is one life of the gateway's database file: another epoch is another stream, its numbers have
nothing to do with those before.

- **Every number is sent, until central acknowledges it.** A broker's PUBACK is no delivery. What is not acknowledged
  $resend_s s after its PUBACK (a setting) comes again, and so does everything after a new connection of the gateway or
  a new `instance` of central. So events come more than once, always under the same key and `id`; `history` may differ.
- **Order is not kept.** Up to $in_flight publications are under way at once (a setting), and new events go before a
  backlog. Only `seq` orders them.
- **The acknowledgement** (`gateway.ack.v1`) names an epoch and the highest number up to which every one is stored. Send
  it after the commit, after each event or batch, whether or not anything in it was new; it may be repeated and may be
  lost. The gateway forgets its rows up to that number. An acknowledgement of another epoch than its present one is
  ignored.
- **Where to begin.** The birth's `oldest_seq` is the oldest number that can still come: everything below counts as
  stored. A central that has lost its database goes on from there.
- **A tombstone** (`tombstone.v1`) stands for a number whose event was erased or dropped. It counts as delivered like
  any other; the number may have come as an event before.
- An event does not expire on its way: late ones are stored, too. `history` says that one had to wait, `timequality` how
  far its time is to be believed.
- A gateway does not keep everything for ever. An event that names a shopper and that central has not acknowledged within
  $keep_days days (a setting, may be less) is dropped, and so is what the gateway's disk or its quota cannot hold. Tombstones
  come in their place.

## Offers

The gateway has checked zone, dates, windows, quiet hours, consent, the day's cap and the visit's push before it
proposes (`offer.matched.v1`). Central grants or refuses once for each `offer`, whatever only it can know
(`offer.decision.v1`):

- A proposal that comes again gets the same answer. A gateway that has lost its database may propose the same promotion
  to the same shopper under another `offer`: refuse with `already_granted` or `push_spent`.
- After `deadline` the answer is a refusal, `late`. A gateway that has no decision by then notes `late` by itself.
  Decisions carry the deadline as `expirytime`. Keep the clocks synchronised: both sides compare with their own.
- A refusal names one of the reasons of the schema; any other makes the decision invalid. What follows from each at the
  gateway stands there.
- A proposal whose `push` is false makes no phone ring. Of kind `info` it never does, and it is shown where the shopper is.
  Of any other kind the visit's push was spent, or these are quiet hours: it lies on the app's shelf, and central sends it
  with `push` false and `shelf` true.
- Granted, the offer goes to the inbox of the app behind the pseudonym (`app.offer.v1`): QoS 1, not retained, `id` the
  offer's, with the deadline as `expirytime`. Send it again until the app's first receipt or the deadline (the reference
  service: after $again_s s, then after twice as long each time). The app shows an offer once by its `id`, and none
  after `expirytime`.
- The app owes a receipt for `shown` and may send others; each has its own `id` and may come more than once. A receipt
  for an offer that did not go to that inbox is nothing.
- What a promotion's `weekly_cap`, `lifetime_cap`, `chain_cap_day`, `quantity` and `holdout_percent` say is central's to
  keep: no gateway knows what another has proposed. Count in the transaction that decides. When the last piece has gone,
  the catalogues of all stores that it concerns name the promotion in `sold_out` within five seconds, and name it no more
  when a reservation lapses.
- A grant that was not redeemed can be taken back (`app.offer.withdrawn.v1`, same inbox): again until the app's receipt
  `withdrawn`. The app then shows the offer no more, and not at all if it comes later.
- Two dismissed offers of one `category` within 30 days mute it for 30 days after the second; a receipt `complained` ends
  everything. Both are told to the gateways (see Contexts) and looked at again at every proposal.

## Contexts

What central knows of a shopper, for audiences that ask for it: `shopper.context.v1`, signed, on a topic of its own for
each pseudonym, not retained.

- Send it when a visit starts, at once: a gateway waits at most one second for it, then withholds what needs it. Send it
  again at every change during the visit, at a gateway's birth and at central's start.
- It is whole and replaces the one before. The highest `version` counts, per shopper: it may come late, twice or out of
  order. Choose versions that do not fall when central loses its database, such as wall milliseconds.
- Gateways keep it in memory alone, for as long as the visit needs it, half an hour where no visit has begun, and forget it
  with consent. Send none of a shopper who has not consented to offers.
- Whoever has consented to offers alone starts no visit that central hears of. When her app says that it has met the store
  (check-in, see Rosters), send her context right after the delta; else her first proposal is the occasion, and until the
  context is there what asks for one is withheld.

## Several gateways

Several gateways of one store may hear, and exactly one decides. Which one, the greatest claim says: `decider` and
`term` of a gateway's status. The higher `term` is the greater claim; in one term the name that comes first. Every
gateway passes on the greatest claim that it has heard of, also in its will, and steps back as soon as it hears of a
greater one than its own; a technician's command makes a gateway claim the next term.

- Central keeps the greatest claim for each store, for good, and grants only to the gateway that it names. Any other's
  proposal is refused with `not_decider`, whatever its status says; a store in which nobody has claimed anything has no
  such rule. Between two gateways that both believe that they decide there is then one who gets grants.
- The new decider remembers nothing of the one before: it proposes again what has been granted already (see Offers).
  Caps belong to the shopper, not to the gateway; visits go on over gateways, under new ids.
- Events of every gateway are stored and acknowledged, whoever decides.
- A receiving gateway sends what it hears as `gateway.sighting.v1`, which is for the deciding gateway alone. It names
  pseudonyms and levels: keep it on the store's broker, and out of bridges to anywhere else.

## Signing

Catalogue, roster and contexts come in a signed envelope, which is verified before what is inside is parsed.

1. Write the document as JSON: the bytes. Any spacing and order of keys will do, the signature covers these very bytes.
2. `signature` = Ed25519 (RFC 8032) over the domain tag and then the bytes. The tag is the ASCII text `$domain_text` and
   one zero byte ($domain_hex).
3. `data_base64` and `signature` in base64; `keyid` names the public key; `type` repeats the document's `type`.

Gateways pin one or two public keys (the present and the next) and take what is signed with either. The document itself
holds type, store, version and `not_after`; one that is of another store, has expired, or is older than what is in force
is refused.

The examples are signed with the key pair of RFC 8032, section 7.1, test 1, which everybody knows and nobody may trust:
private `$private_key`, public `$public_key`.

## Rosters

A roster names the shoppers of one store on one day. Central derives each record from the app's key KU (32 bytes), the
store's number and the day, both as 4 bytes, big-endian:

```
DK  = HKDF-SHA256(KU, salt empty, info "SBG1-DK"  | store number | day, 16 bytes)     the day's key
rid = HKDF-SHA256(KU, salt empty, info "SBG1-RID" | store number | day, 8 bytes)      the pseudonym

record, $record_bytes bytes:  rid 8 | DK 16 | consent 1 (bit 0 offers, bit 1 analytics)
```

Written in hexadecimal, rid is the `shopper` of every event. In the examples KU is 00 01 … 1f (and 20 21 … 3f for who
checks in), the store's number $store_number, the day $day. Without consent to analytics a gateway tells only the offers
of a shopper, without consent to offers only presence, without both nothing.

- Concatenate the records, cut them into chunks of at most $chunk_records, publish each on its topic and the manifest
  with their hashes, in any order, all of one version. A roster comes into force whole, when every chunk fits its hash.
  At most $shoppers shoppers for a store.
- A day's roster with fewer chunks than before: publish an empty retained message on the topics of those that are left
  over.
- Send today and tomorrow (at most 7 days), and clear the topics of a day that is over. `not_after`: two hours after the
  day's end.
- **Changes** (`roster.delta.v1`): who checks in or opts out, at once. A delta leads from the version in force to the
  next; gateways keep early ones for a while and pass over what is older than theirs. Publish a manifest of the last
  delta's version some seconds later: deltas are not retained, and who missed one catches up by it.
- Gateways whose operator has not completed the privacy settings do not subscribe to rosters.

The catalogue is one message, replaced whole, and refused whole for one promotion that is not valid; what a promotion
must be beyond its schema, its description there says. Raise `version` with every change, sign it again long before `not_after`
(the reference service: every day, for a week).
""")

DESCRIPTION = _DESCRIPTION.substitute(
    content_type=CONTENT_TYPE,
    max_bytes=strict_json.MAX_BYTES,
    max_depth=strict_json.MAX_DEPTH,
    resend_s=Broker().resend_after_s,
    in_flight=Broker().max_in_flight,
    keep_days=Storage().keep_ledger_days,
    again_s=CentralSettings.model_fields["offer_resend_s"].default,
    domain_text=DOMAIN_TAG.rstrip(b"\0").decode(),
    domain_hex=DOMAIN_TAG.hex(" "),
    private_key=examples.PRIVATE_KEY.hex(),
    public_key=examples.PUBLIC_KEY.hex(),
    record_bytes=RECORD_BYTES,
    chunk_records=MAX_RECORDS_PER_CHUNK,
    shoppers=MAX_SHOPPERS,
    store_number=examples.STORE_NUMBER,
    day=examples.DAY,
)
"""The document's introduction, in Markdown."""
