// Made by `gateway firmware render`; SHA-256 of the lines below: 424c6d5bab426fd824401a558845bb3c38b85684a5bf38f842a506c36ef2865c
// Beacon shelf-7 in zone dairy (Dairy)
// On the air: 02 01 06 1a ff 4c 00 02 15 8b 1f 4a 0e 5d 9c 4c 7b a1 e3 0d 5f 6a 7b 8c 9d 00 01 00 6b c5
// It transmits once the development tool has disconnected. From then on nobody can connect: see the board's hard reset.
function onInit() {
  NRF.setTxPower(0);
  NRF.setAdvertising([
    0x02, 0x01, 0x06, 0x1a, 0xff, 0x4c, 0x00, 0x02, 0x15, 0x8b,
    0x1f, 0x4a, 0x0e, 0x5d, 0x9c, 0x4c, 0x7b, 0xa1, 0xe3, 0x0d,
    0x5f, 0x6a, 0x7b, 0x8c, 0x9d, 0x00, 0x01, 0x00, 0x6b, 0xc5
  ], { interval: 100, connectable: false, scannable: false });
}
