"""How many parameters has each layer of this convnet? Statements about it, checked.

Run it with `tally run examples/seeds/quiz.py`.
"""

import keras
from keras import layers

model = keras.Sequential(
    [
        keras.Input(shape=(28, 28, 1)),
        layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ]
)
model.summary()

statements = (
    ("the first convolution has 21,632 parameters", 0, 21_632),
    ("the first pooling has 5,408 parameters", 1, 5_408),
    ("the second convolution has 18,496 parameters", 2, 18_496),
    ("the dense layer has 16,010 parameters", 6, 16_010),
)
for statement, place, said in statements:
    counted = model.layers[place].count_params()
    verdict = "right" if counted == said else f"wrong, it has {counted:,}"
    print(f"{statement}: {verdict}")
